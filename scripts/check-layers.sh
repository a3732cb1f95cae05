#!/bin/bash
# SPDX-License-Identifier: MIT
# Proves what can be proved of the tree without running it: who includes whom,
# that each header compiles alone, sizes, and a few habits. No exceptions list.
#   CC=gcc CPPFLAGS=... scripts/check-layers.sh
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1

C_LINES=800 H_LINES=250 BPF_H_LINES=300 FUNCTION_LINES=80
CC=${CC:-gcc}
CLANG=${CLANG:-clang}
passed=0 failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# tally NAME FILES: the complaints are in $tmp/out; a file without one has passed.
tally()
{
	local name=$1 files=$2 bad
	bad=$(cut -d: -f1 "$tmp/out" | sort -u | grep -c .)
	while IFS= read -r line; do
		printf '  FAIL    %s\n' "$line"
	done <"$tmp/out"
	passed=$((passed + files - bad)) failed=$((failed + bad))
	printf '  %-7s %-28s %4d files\n' "$([ "$bad" -eq 0 ] && echo ok || echo FAIL)" "$name" "$files"
}

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
	git ls-files -co --exclude-standard >"$tmp/listed"
else
	find . -type f ! -path './build*' ! -path '*/node_modules/*' ! -path '*/__pycache__/*' |
		sed 's|^\./||' >"$tmp/listed"
fi
while IFS= read -r f; do [ -f "$f" ] && printf '%s\n' "$f"; done <"$tmp/listed" | sort >"$tmp/all"
mapfile -t ours < <(grep -E '^(userspace|include|bpf)/.*\.[ch]$' "$tmp/all")
mapfile -t code < <(grep -E '^(userspace|include|bpf|tests)/.*\.[ch]$' "$tmp/all")

# ------------------------------------------------------------- who includes whom
# DESIGN: base <- net, inspect, policy (+ inspect), record, ident (+ net), kern,
# config (+ policy) <- daemon (all but ctl), ctl. `include` are the contracts.
inspectors=$(grep -hoE '^const struct inspector inspector_[a-z0-9]+' "${ours[@]}" |
	sed 's/.*inspector_//' | tr '\n' ' ')
awk -v inspectors="$inspectors" '
BEGIN {
	split(inspectors, list, " ");
	for (i in list) inspector[list[i]] = 1;
	may["base"] = " base ";
	may["net"] = " base net ";
	may["sql"] = " base sql ";
	may["inspect"] = " base inspect sql ";
	may["policy"] = " base inspect sql policy ";
	may["record"] = " base record include ";
	may["ident"] = " base net ident ";
	may["kern"] = " base kern include gen ";
	may["config"] = " base policy config include ";
	may["daemon"] = " base net inspect sql policy record ident kern config daemon include ";
	may["ctl"] = " base inspect sql policy config record kern ctl include ";
	may["include"] = " include ";
	may["bpf"] = " bpf include ";
}
function layer_of(path) {
	if (path ~ /^inspect\/sql\//) return "sql";
	if (path ~ /^tidegate_[a-z]*\.h$/) return "include";
	if (path ~ /\.skel\.h$/) return "gen";
	if (path ~ /\//) { sub(/\/.*/, "", path); return path; }
	return "";
}
function protocol(path,   n) {
	n = path; sub(/.*\//, "", n); sub(/[_.].*/, "", n);
	return (n in inspector) ? n : "";
}
FNR == 1 {
	me = FILENAME; sub(/^userspace\//, "", me); mine = layer_of(me);
	if (FILENAME ~ /^include\//) mine = "include";
	if (FILENAME ~ /^bpf\//) mine = "bpf";
	if (!(mine in may)) print FILENAME ":1: is in no layer";
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
	other = $0; sub(/^[^"]*"/, "", other); sub(/".*/, "", other);
	theirs = layer_of(other);
	if (mine == "bpf") {
		if (theirs != "include" && other != "vmlinux.h" && other !~ /^(lib|bpf)\// && other ~ /\//)
			print FILENAME ":" FNR ": bpf must not include " other;
		next;
	}
	if (other ~ /vmlinux\.h$/)
		print FILENAME ":" FNR ": only bpf/ includes " other;
	else if (theirs == "")
		print FILENAME ":" FNR ": includes " other " without its folder";
	else if (index(may[mine], " " theirs " ") == 0)
		print FILENAME ":" FNR ": " mine " must not include " other;
	a = protocol(me); b = protocol(other);
	if (mine == "inspect" && theirs == "inspect" && b != "" && a != b)
		print FILENAME ":" FNR ": sideways into the inspector " b;
}
/^[ \t]*#[ \t]*include[ \t]*[<"](postgres|nodes\/|catalog\/|parser\/)/ { node_headers[FILENAME] = FNR; }
mine != "daemon" && mine != "ctl" && me !~ /^base\/log\./ && mine != "bpf" &&
	/(^|[^a-z_])log_(error|warning|notice|info)\(/ {
	print FILENAME ":" FNR ": logs above debug below daemon/ and ctl/";
}
END {
	for (f in node_headers) nodes++;
	if (nodes > 1)
		for (f in node_headers) print f ":" node_headers[f] ": a second file with PostgreSQL node headers";
}
' "${ours[@]}" >"$tmp/out"
tally includes "${#ours[@]}"

# --------------------------------------------------------- headers compile alone
compile_alone()
{
	case $1 in
	bpf/*) $CLANG -target bpf -D__TARGET_ARCH_x86 -O2 -I. -Iinclude -Ibpf -Wall -Werror -Wno-unused-function \
		-idirafter "/usr/include/$(${CC:-gcc} -print-multiarch)" \
		-include vmlinux.h -Wno-unused-function -fsyntax-only -x c "$1" ;;
	*) # shellcheck disable=SC2086
		$CC $CPPFLAGS -std=gnu11 -Wall -Werror -Wno-unused-function -fsyntax-only -x c "$1" ;;
	esac 2>&1 | grep -m1 -E 'error' | sed "s|^|$1: does not compile alone: |"
	return 0
}
export -f compile_alone
pg=$(printf '%s\n' /usr/include/postgresql/*/server | tail -n 1)
export CC CLANG CPPFLAGS="${CPPFLAGS:--D_GNU_SOURCE -Iinclude -Iuserspace -isystem $pg}"
mapfile -t headers < <(printf '%s\n' "${ours[@]}" | grep '\.h$')
printf '%s\0' "${headers[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'compile_alone "$1"' _ {} >"$tmp/out"
tally 'headers compile alone' "${#headers[@]}"

# ------------------------------------------------------------------------ sizes
awk -v c="$C_LINES" -v h="$H_LINES" -v b="$BPF_H_LINES" -v fn="$FUNCTION_LINES" '
function done_file() {
	max = name ~ /\.c$/ ? c : name ~ /^bpf\/lib\// ? b : h;
	if (name != "" && n > max) print name ":" n ": longer than " max " lines";
}
FNR == 1 { done_file(); name = FILENAME; open = 0; }
{ n = FNR; }
# Kernel braces: a function is what lies between `{` and `}` in the first column,
# less the constant tables in it, which are data.
/^\{$/ { open = FNR; data = table = 0; }
/^\tstatic const .*= \{$/ { table = FNR; }
/^\t\};$/ && table { data += FNR - table + 1; table = 0; }
/^\}/ && open {
	lines = FNR - open - 1 - data;
	if (lines > fn) print FILENAME ":" open ": a function of " lines " lines, more than " fn;
	open = 0;
}
END { done_file(); }
' "${code[@]}" >"$tmp/out"
tally sizes "${#code[@]}"

# ----------------------------------------------------------------------- habits
: >"$tmp/out"
mapfile -t users < <(grep '^userspace/' "$tmp/all" | grep -vE '/(README\.md|main\.c)$')
printf '%s\n' "${users[@]}" | sed 's|.*/||' | sort | uniq -d | while IFS= read -r name; do
	printf '%s\n' "${users[@]}" | grep "/$name\$" | sed 's|$|: another file has the same name|'
done >"$tmp/out"
tally 'names are unique' "${#users[@]}"

mapfile -t text < <(grep -vE '^(tests/fuzz/corpus|tests/golden)/|\.(png|gz|zst)$|^vmlinux\.h$' "$tmp/all")
words='TO''DO|FIX''ME|X''XX'
grep -nIwE "$words" "${text[@]}" | sed -E 's/^([^:]*:[0-9]*):.*/\1: a note that something is left to do/' >"$tmp/out"
tally 'nothing left to do' "${#text[@]}"

# `//` outside of strings, characters and /* */.
awk '
FNR == 1 { inside = 0; }
{
	line = $0; n = length(line); quote = "";
	for (i = 1; i <= n; i++) {
		two = substr(line, i, 2); one = substr(line, i, 1);
		if (inside) { if (two == "*/") { inside = 0; i++; } }
		else if (quote != "") { if (one == "\\") i++; else if (one == quote) quote = ""; }
		else if (two == "/*") { inside = 1; i++; }
		else if (two == "//") { print FILENAME ":" FNR ": a // comment"; break; }
		else if (one == "\"" || one == "\x27") quote = one;
	}
}' "${code[@]}" >"$tmp/out"
tally 'no // comments' "${#code[@]}"

mapfile -t licensed < <(grep -E '(\.(c|h|sh|py|js|mjs|service|conf|yaml|[1-9])|(^|/)Makefile|^\.ci/run)$' "$tmp/all" |
	grep -vE '^tests/(golden|fuzz/corpus|cli)/')
for f in "${licensed[@]}"; do
	head -n 3 "$f" | grep -q 'SPDX-License-Identifier: ' || printf '%s: no SPDX line on top\n' "$f"
done >"$tmp/out"
tally 'SPDX lines' "${#licensed[@]}"

if command -v groff >/dev/null; then
	mapfile -t pages < <(grep -E '^deploy/man/.*\.[1-9]$' "$tmp/all")
	for f in "${pages[@]}"; do
		LC_ALL=C.UTF-8 groff -ww -mandoc -Tutf8 "$f" 2>&1 >/dev/null | sed "s|^|$f: |"
	done >"$tmp/out"
	tally 'manual pages' "${#pages[@]}"
fi

printf 'layers: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
