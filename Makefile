# SPDX-License-Identifier: MIT
# One Makefile, not recursive. `make help` lists what it does.
#
#   O=DIR      build there instead of build/
#   V=1        show commands
#   SAN=address,undefined   build with sanitizers (in build-SAN/ unless O= says)
#   DEVELOPER=1             warnings are errors
#   PREFIX=/usr/local DESTDIR=   for install

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

VERSION  := 0.1.0
PREFIX   ?= /usr/local
SAN      ?=
comma    := ,
O        ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
CLANG    ?= clang
# Ubuntu's /usr/sbin/bpftool insists on the running kernel's version; the real ones lie below.
BPFTOOL  ?= $(firstword $(wildcard /usr/lib/linux-tools/*/bpftool /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
PKGCONF  ?= pkg-config
AR       ?= ar

Q := $(if $(V),,@)
SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V)$(SILENT),,@printf '  %-8s%s\n' '$(1)' '$(2)')

CHECKS := $(filter-out clean help,$(or $(MAKECMDGOALS),all))
PKGS := libbpf libelf libuv libcares libcurl jansson libzstd openssl libfyaml libseccomp cjose libhs libxxhash
# Their flags define macros: seen by the files alone that need them.
SAML_PKGS := xmlsec1-openssl libxml-2.0

ifneq ($(CHECKS),)
MISSING := $(shell $(PKGCONF) --exists $(PKGS) $(SAML_PKGS) 2>/dev/null || for p in $(PKGS) $(SAML_PKGS); do $(PKGCONF) --exists $$p || echo $$p; done)
ifneq ($(MISSING),)
$(error missing libraries: $(MISSING) -- run scripts/setup.sh)
endif
PKG_CFLAGS := $(shell $(PKGCONF) --cflags $(PKGS))
PKG_LIBS   := $(shell $(PKGCONF) --libs $(PKGS) $(SAML_PKGS)) -lpg_query
SAML_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKGCONF) --cflags $(SAML_PKGS)))
endif

# The grammar that libpg_query was made from; node headers must be of the same major.
PG_MAJOR := $(shell sed -n 's/^\#define PG_MAJORVERSION "\([0-9]*\)".*/\1/p' /usr/include/pg_query.h 2>/dev/null)
PG_INC   := $(firstword $(wildcard /usr/include/postgresql/$(PG_MAJOR)/server))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
	-Wformat=2 -Wundef -Wwrite-strings -Wno-unused-parameter
# clang does not read the comment by which a library's macro says that it falls through.
ifeq ($(findstring clang,$(CC)),)
WARN += -Wimplicit-fallthrough
endif
ifeq ($(DEVELOPER),1)
WARN += -Werror
endif
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
OPT      ?= -O2 -g
HARDEN   := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
CPPFLAGS += -D_GNU_SOURCE -DTIDEGATE_VERSION='"$(VERSION)"' -Iinclude -Iuserspace -I$(O)/gen $(PKG_CFLAGS)
ALL_CFLAGS = -std=gnu11 $(OPT) $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS)

# Every layer is a folder; a program's main() is <folder>/main.c.
LAYERS   := base net inspect inspect/sql config policy record ident kern daemon ctl
SRCS     := $(foreach d,$(LAYERS),$(wildcard userspace/$(d)/*.c))
MAINS    := $(filter %/main.c,$(SRCS))
LIB_SRCS := $(filter-out $(MAINS),$(SRCS))
LIB_OBJS := $(LIB_SRCS:%.c=$(O)/%.o)
LIB      := $(O)/libtidegate.a
PROGS    := $(if $(wildcard userspace/daemon/main.c),$(O)/tidegated) $(if $(wildcard userspace/ctl/main.c),$(O)/tidegate)

BPF_SRC  := $(wildcard bpf/tidegate.bpf.c)
SKEL     := $(if $(BPF_SRC),$(O)/gen/tidegate.skel.h)

.PHONY: all
all: $(PROGS) $(LIB)

.PHONY: help
help:
	@sed -n '2,9s/^# \{0,1\}//p' Makefile
	@printf '%s\n' 'targets: all check check-unit check-fuzz check-layers bench-build install clean'

# ------------------------------------------------------------------- bpf
BPF_CFLAGS := -g -O2 -target bpf -D__TARGET_ARCH_$(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/') \
	-mcpu=v3 -Wall -Werror -Iinclude -I. -Ibpf \
	-idirafter /usr/include/$(shell $(CC) -print-multiarch)

$(O)/bpf/tidegate.bpf.o: $(BPF_SRC) $(wildcard bpf/lib/*.h) vmlinux.h $(wildcard include/tidegate_*.h)
	$(call say,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $(@:.o=.tmp.o)
	$(Q)$(BPFTOOL) gen object $@ $(@:.o=.tmp.o)

$(O)/gen/tidegate.skel.h: $(O)/bpf/tidegate.bpf.o
	$(call say,SKEL,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(BPFTOOL) gen skeleton $< name tidegate_bpf > $@

# -------------------------------------------------------------- userspace
$(O)/userspace/kern/%.o: CPPFLAGS += -Wno-unused-function
$(foreach d,$(O) $(O)/fuzz-obj,$(d)/userspace/ident/saml.o $(d)/userspace/ident/saml_%.o $(d)/tests/unit/saml_%.o): CPPFLAGS += $(SAML_CFLAGS)
$(O)/userspace/inspect/sql/tree.o $(O)/userspace/inspect/sql/tree_%.o: CPPFLAGS += -isystem $(PG_INC)

$(O)/%.o: %.c Makefile | $(SKEL)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(LIB_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(O)/tidegated: $(O)/userspace/daemon/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lm -o $@

$(O)/tidegate: $(O)/userspace/ctl/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lm -o $@

# ------------------------------------------------------------------ tests
# tests/unit/test_X.c is one cmocka program; tests/fuzz/fuzz_X.c is one fuzz
# target, whose corpus in tests/fuzz/corpus/X is replayed by driver.c.
UNIT_SRCS := $(wildcard tests/unit/test_*.c)
UNIT_HELP := $(filter-out $(UNIT_SRCS),$(wildcard tests/unit/*.c))
UNITS     := $(UNIT_SRCS:tests/unit/%.c=$(O)/tests/unit/%)
FUZZ_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
REPLAYS   := $(FUZZ_SRCS:tests/fuzz/%.c=$(O)/tests/fuzz/%)
ENGINES   := $(FUZZ_SRCS:tests/fuzz/%.c=$(O)/tests/fuzz/engine/%)

$(O)/tests/unit/%: $(O)/tests/unit/%.o $(UNIT_HELP:%.c=$(O)/%.o) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lcmocka -lpcre2-8 -lm -o $@

$(O)/tests/fuzz/fuzz_%: $(O)/tests/fuzz/fuzz_%.o $(O)/tests/fuzz/driver.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lm -o $@

# Run by tests/bpf/run.sh, as root.
$(O)/tests/bpf/test_bpf: $(patsubst %.c,$(O)/%.o,$(wildcard tests/bpf/*.c)) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lm -o $@

# libFuzzer: the whole library is built again with coverage.
FUZZ_FLAGS := -O1 -g -std=gnu11 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
$(O)/fuzz-obj/userspace/inspect/sql/tree.o $(O)/fuzz-obj/userspace/inspect/sql/tree_%.o: CPPFLAGS += -isystem $(PG_INC)
$(O)/fuzz-obj/%.o: %.c Makefile | $(SKEL)
	$(call say,FUZZCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS) $(FUZZ_FLAGS) -MMD -MP -c $< -o $@

$(O)/fuzz-obj/libtidegate.a: $(LIB_SRCS:%.c=$(O)/fuzz-obj/%.o)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(O)/tests/fuzz/engine/fuzz_%: $(O)/fuzz-obj/tests/fuzz/fuzz_%.o $(O)/fuzz-obj/libtidegate.a
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined $^ $(PKG_LIBS) -lm -o $@

.PHONY: fuzz-engines
fuzz-engines: $(ENGINES)

.PHONY: check-unit
check-unit: $(UNITS)
	$(Q)scripts/run-units.sh $(UNITS)

.PHONY: check-fuzz
check-fuzz: $(REPLAYS)
	$(Q)scripts/run-replays.sh $(REPLAYS)

.PHONY: check-layers
check-layers:
	$(Q)CC="$(CC)" CPPFLAGS="$(CPPFLAGS) -isystem $(PG_INC) $(SAML_CFLAGS)" scripts/check-layers.sh

.PHONY: check
check: all check-layers check-unit check-fuzz
	$(Q)O=$(O) scripts/check-more.sh --quick

BENCH_SRCS := $(wildcard tests/bench/*.c)
BENCHES := $(BENCH_SRCS:%.c=$(O)/%)
$(O)/tests/bench/bench_kern: $(O)/tests/bpf/env.o $(O)/tests/bench/kern/kern_ops.o
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lpcre2-8 -lm -o $@
.PHONY: bench-build
bench-build: all $(BENCHES)

# Programs that the end-to-end tests drive.
E2E_PROGS := $(patsubst %.c,$(O)/%,$(wildcard tests/e2e/*.c))
$(O)/tests/e2e/catalog_driver.o: CPPFLAGS += -I/usr/include/postgresql
$(O)/tests/e2e/catalog_driver: PKG_LIBS += -lpq
$(O)/tests/e2e/%: $(O)/tests/e2e/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PKG_LIBS) -lm -o $@
.PHONY: e2e-build
e2e-build: all $(E2E_PROGS)

# ---------------------------------------------------------------- install
.PHONY: install
install: all
	$(Q)O=$(O) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) VERSION=$(VERSION) scripts/install.sh

.PHONY: clean
clean:
	rm -rf $(O)

.SECONDARY:
-include $(shell find $(O) -name '*.d' 2>/dev/null)
