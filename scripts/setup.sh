#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs the Debian 12 / Ubuntu 24.04 packages that Tidegate needs; only what
# is missing, by apt-get, as root or through sudo. It says what it does.
#   setup.sh [--build]           libraries and compilers (the default)
#   setup.sh --demo              and a PostgreSQL server and psql
#   setup.sh --test              and what the tests need
#   setup.sh --bench             and what the benchmarks compare with
#   setup.sh --vm                and what boots machines for tests/vm
#   setup.sh --list MODE         prints the packages, installs nothing
#   setup.sh --source PKG DIR    unpacks a distribution source package into DIR
#
# No database cluster is made or started by this, and no other service: the
# PostgreSQL packages are told not to make one while they are installed, and
# what a package starts by itself is not started.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# ------------------------------------------------------------ the packages
build_packages=(
	gcc make pkgconf clang llvm libc6-dev
	libbpf-dev libelf-dev libuv1-dev libc-ares-dev libcurl4-openssl-dev libjansson-dev libzstd-dev libssl-dev
	libfyaml-dev libseccomp-dev libcjose-dev libxml2-dev libxmlsec1-dev libvectorscan-dev libxxhash-dev libpg-query-dev
	uthash-dev postgresql-server-dev-@PG@ @BPFTOOL@
)
demo_packages=(postgresql-@PG@ postgresql-client-@PG@ iproute2)
test_packages=(
	libcmocka-dev libpcre2-dev libclang-rt-dev python3 python3-cryptography python3-psycopg2 python3-pytest @NODE@
	dpkg-dev man-db git curl jq procps xmlsec1
	# A real container. Not runc: it conflicts with the containerd.io of Docker, which apt would remove.
	podman crun
	# Reads the units. Alone it is not what the machine boots with: that is systemd-sysv.
	systemd
)
bench_packages=(pgbouncer haproxy)
vm_packages=(busybox-static qemu-system-x86 mmdebstrap e2fsprogs systemd)

distribution()
{
	# shellcheck disable=SC1091
	. /etc/os-release
	case ${ID:-} in
	debian | ubuntu) printf '%s\n' "$ID" ;;
	*) case " ${ID_LIKE:-} " in
		*' ubuntu '*) echo ubuntu ;;
		*' debian '*) echo debian ;;
		*) die "this script knows Debian and Ubuntu, not ${PRETTY_NAME:-this system}; the packages are listed in $0" ;;
		esac ;;
	esac
}

# The node headers must be of the major that libpg_query was made from.
postgresql_major()
{
	local v
	v=$(dpkg-query -W -f '${Version}' libpg-query-dev 2>/dev/null || true)
	[ -n "$v" ] || v=$(apt-cache policy libpg-query-dev 2>/dev/null | sed -n 's/^ *Candidate: //p')
	case $v in
	[1-9][0-9][-.]*) printf '%s\n' "${v%%[-.]*}" ;;
	*) echo 15 ;;
	esac
}

packages_of()
{
	local mode=$1 p pg
	local -a all=("${build_packages[@]}")
	case $mode in
	build) ;;
	demo) all+=("${demo_packages[@]}") ;;
	test) all+=("${demo_packages[@]}" "${test_packages[@]}") ;;
	bench) all+=("${demo_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}") ;;
	vm) all+=("${demo_packages[@]}" "${vm_packages[@]}") ;;
	*) die "no such mode: $mode" ;;
	esac
	pg=$(postgresql_major)
	for p in "${all[@]}"; do
		case $p in
		@BPFTOOL@) [ "$distro" = ubuntu ] && echo linux-tools-generic || echo bpftool ;;
		# A node of another origin brings its npm and conflicts with Debian's.
		@NODE@) command -v node >/dev/null || echo nodejs
			command -v npm >/dev/null || echo npm ;;
		*) printf '%s\n' "${p//@PG@/$pg}" ;;
		esac
	done
}

installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_of()
{
	local p
	for p in $(packages_of "$1"); do
		installed "$p" || printf '%s\n' "$p"
	done
}

# ------------------------------------------------------------ installation
root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
undo=()

at_exit()
{
	local i
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		eval "${undo[i]}"
	done
}
trap at_exit EXIT

apt()
{
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -y -q \
		-o Acquire::Retries=3 -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 \
		-o DPkg::Lock::Timeout=120 "$@"
}

# While packages are installed: nothing is started, no cluster is made.
hold_services()
{
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
		"${root[@]}" chmod 755 "$policy"
		undo+=("${root[*]} rm -f $policy")
	fi
}

hold_clusters()
{
	local conf=/etc/postgresql-common/createcluster.conf copy
	installed postgresql-common || apt install --no-install-recommends postgresql-common
	copy=$(mktemp)
	cp "$conf" "$copy"
	# `cat` keeps owner and mode of the file.
	undo+=("${root[*]} sh -c 'cat $copy >$conf'; rm -f $copy")
	printf '\ncreate_main_cluster = false\n' | "${root[@]}" tee -a "$conf" >/dev/null
	say "PostgreSQL is installed without a cluster of its own ($conf is put back afterwards)"
}

install_mode()
{
	local mode=$1 p
	local -a missing=() services=()
	mapfile -t missing < <(missing_of "$mode")
	if [ ${#missing[@]} -eq 0 ]; then
		say "all packages for '$mode' are there"
		return
	fi
	if [ "${#root[@]}" -gt 0 ] && ! command -v sudo >/dev/null; then
		die "not root and no sudo: as root, run: apt-get install ${missing[*]}"
	fi
	say "updating the package lists"
	apt update
	# The major may only be known now.
	mapfile -t missing < <(missing_of "$mode")
	say "installing: ${missing[*]}"
	hold_services
	for p in "${missing[@]}"; do
		case $p in
		postgresql-[0-9]*) hold_clusters; break ;;
		esac
	done
	apt install --no-install-recommends "${missing[@]}"
	for p in "${missing[@]}"; do
		case $p in
		pgbouncer | haproxy) services+=("$p") ;;
		esac
	done
	if [ ${#services[@]} -gt 0 ] && [ -d /run/systemd/system ]; then
		say "not to be started at boot: ${services[*]}"
		"${root[@]}" systemctl disable -q "${services[@]}" || true
	fi
	mapfile -t missing < <(missing_of "$mode")
	[ ${#missing[@]} -eq 0 ] || die "still missing: ${missing[*]}"
	say "done"
}

# --------------------------------------------------------- source packages
# The system's own list of sources is not changed: deb-src lines for the
# distribution's archives are made in a private place.
fetch_source()
{
	local package=$1 dir=$2 tmp f
	tmp=$(mktemp -d)
	undo+=("rm -rf $tmp")
	chmod 755 "$tmp"
	mkdir -p "$tmp/parts" "$tmp/lists/partial" "$dir"
	: >"$tmp/list"
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$f" ] || continue
		sed -nE 's/^deb(-src)?[[:space:]]/deb-src /p' "$f" | grep -E '/(debian|ubuntu)' >>"$tmp/list" || true
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] && grep -qE '^URIs:.*/(debian|ubuntu)' "$f" || continue
		sed -E 's/^Types:.*/Types: deb-src/' "$f" >"$tmp/parts/$(basename "$f")"
	done
	sort -u -o "$tmp/list" "$tmp/list"
	local -a options=(
		-q -o Acquire::Retries=3 -o "Dir::Etc::sourcelist=$tmp/list"
		-o "Dir::Etc::sourceparts=$tmp/parts" -o "Dir::State::lists=$tmp/lists"
		-o APT::Sandbox::User=root
		-o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
	)
	say "fetching the source of $package"
	apt-get "${options[@]}" update
	# The newest may be on an archive that keeps no sources: then the next older one.
	for v in $(apt-cache "${options[@]}" showsrc "$package" | sed -n 's/^Version: //p' | sort -Vru); do
		(cd "$dir" && apt-get "${options[@]}" source "$package=$v") && return
		say "no source of $package $v here"
	done
	return 1
}

# --------------------------------------------------------------------- main
distro=$(distribution)
mode=build
case ${1:-} in
'' | --build) ;;
--demo | --test | --bench | --vm) mode=${1#--} ;;
--list) packages_of "${2:?--list takes a mode}"; exit ;;
--source)
	[ $# -eq 3 ] || die "--source takes a package and a folder"
	fetch_source "$2" "$3"
	exit ;;
*) sed -n '3,12s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit ;;
esac
install_mode "$mode"
