#!/bin/bash
# SPDX-License-Identifier: MIT
# The suites that need more than a program of their own: command line, kernel,
# end to end. Each ends with a line `NAME: N passed, N failed, N skipped` and
# names what it skips with a line `  skip    what: why`; one without that line
# has failed.
#   O=build scripts/check-more.sh [--quick|--every|--full]
# A suite of tests/e2e that says `tier: full` in its first ten lines is run with --every and
# --full only; regress.sh with --full. One that says `tier: long` is left out with --quick, which
# is what `make check` asks for. With --full suites do more of what they do (TIDEGATE_TIER).
# Files called lib*.sh are no suites.
set -u
cd "$(dirname "$0")/.." || exit 1
export O=${O:-build}
tier=quick
[ "${1:-}" = --full ] && tier=full
long=1
[ "${1:-}" = --quick ] && long=
[ "${1:-}" = --every ] && every=1 || every=
export TIDEGATE_TIER=$tier
limit=${SUITE_SECONDS:-$([ $tier = full ] && echo 3600 || echo 600)}
passed=0 failed=0 skipped=0
log=$(mktemp) skips=$(mktemp) || exit 1
trap 'rm -f "$log" "$skips"' EXIT

run_suite()
{
	local name=$1 line status=0 begin=$SECONDS
	shift
	printf '%s\n' "-- $name"
	timeout -k 10 "$limit" "$@" </dev/null 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	printf '%s\n' "-- $name: $((SECONDS - begin)) s"
	line=$(grep -aE '^[a-z][a-z0-9_-]*: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
	if [ -z "$line" ]; then
		[ "$status" -eq 124 ] && echo "  FAIL    $name: not done after $limit s" ||
			echo "  FAIL    $name: ended without its counts (exit $status)"
		printf '%s: 0 passed, 1 failed, 0 skipped\n' "$name"
		failed=$((failed + 1))
		return
	fi
	read -r p f s <<<"$(sed -E 's/^[^:]*: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/' <<<"$line")"
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
		printf '  FAIL    %s: exit %s\n%s-exit: 0 passed, 1 failed, 0 skipped\n' "$name" "$status" "$name"
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	grep -aE '^  skip ' "$log" >>"$skips"
	return 0
}

[ -x tests/cli/run.sh ] && run_suite cli tests/cli/run.sh
# The full tier sends more through the sockets.
[ "$tier" = full ] && export TIDEGATE_FULL=1
[ -x tests/bpf/run.sh ] && run_suite bpf tests/bpf/run.sh
for suite in tests/e2e/*.sh; do
	name=$(basename "$suite" .sh)
	case $name in lib*) continue ;; esac
	[ -x "$suite" ] || continue
	[ "$name" = regress ] && [ $tier = quick ] && continue
	if [ $tier = quick ] && [ -z "$every" ] && head -n 10 "$suite" | grep -q 'tier: full'; then
		continue
	fi
	if [ -z "$long" ] && head -n 10 "$suite" | grep -q 'tier: long'; then
		continue
	fi
	run_suite "$name" "$suite"
done

if [ -s "$skips" ]; then
	echo 'not run:'
	cat "$skips"
fi
printf '== more: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
