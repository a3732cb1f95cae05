#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs what the tests need, builds with both compilers, runs the tests and
# ends with the line `N passed, N failed, N skipped`.
#   test.sh           what a change must pass: up to 25 minutes on two cores
#   test.sh --full    and the long suites, sanitizers on everything, fuzzing (FUZZ_SECONDS
#                     a target, 600): hours
set -u
cd "$(dirname "$0")/.." || exit 1
full=
case ${1:-} in
'') ;;
--full) full=1 ;;
*) sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
passed=0 failed=0 skipped=0
jobs=$(nproc)
log=$(mktemp) skips=$(mktemp) || exit 1
trap 'rm -f "$log" "$skips"' EXIT
begin=$SECONDS

# step NAME COMMAND...: adds up the counts that it prints; a command that fails
# without counting a failure is one.
step()
{
	local name=$1 status p f s before=$failed start=$SECONDS
	shift
	printf '\n== %s\n' "$name"
	"$@" </dev/null 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	while read -r p f s; do
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done < <(sed -nE 's/^[a-z][a-z0-9 _-]*: ([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 0\4/p' "$log")
	grep -aE '^  skip ' "$log" | sort -u >>"$skips"
	if [ "$status" -ne 0 ] && [ "$failed" -eq "$before" ]; then
		failed=$((failed + 1))
		printf '  FAIL    %s: exit %s\n' "$name" "$status"
	fi
	printf '== %s: %d s\n' "$name" $((SECONDS - start))
	return "$status"
}

# A build that does not warn counts as one.
build()
{
	make -j"$jobs" DEVELOPER=1 "$@" && echo "build: 1 passed, 0 failed"
}

step 'packages' scripts/setup.sh --test || { echo "$passed passed, $failed failed, $skipped skipped"; exit 1; }
step 'build with gcc' build CC=gcc all
step 'build with clang' build CC=clang O=build-clang all
step 'layers' make -s check-layers
step 'unit tests' make -s -j"$jobs" check-unit
step 'fuzz corpora' make -s -j"$jobs" check-fuzz
step 'suites' scripts/check-more.sh ${full:+--full}
if [ -n "$full" ]; then
	export SAN=address,undefined
	step 'build with sanitizers' build O=build-san all
	step 'unit tests with sanitizers' make -s -j"$jobs" O=build-san check-unit
	step 'fuzz corpora with sanitizers' make -s -j"$jobs" O=build-san check-fuzz
	# The numbers of the full tier are measured above; here it is every path that counts.
	step 'suites with sanitizers' env O=build-san SUITE_SECONDS=3600 scripts/check-more.sh --every
	unset SAN
	step 'fuzzing' scripts/fuzz.sh "${FUZZ_SECONDS:-600}"
fi

if [ -s "$skips" ]; then
	printf '\nnot run:\n'
	sort -u "$skips"
fi
printf '\n%d min %d s\n' $(((SECONDS - begin) / 60)) $(((SECONDS - begin) % 60))
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
