#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the fuzz targets with libFuzzer and keeps what they find: inputs that
# reach something new are minimised into tests/fuzz/corpus/X, one that breaks a target
# is left in build/fuzz/X/.
#   fuzz.sh SECONDS [TARGET...]     seconds for each target; TARGET as `config`
# An input may take FUZZ_TIMEOUT seconds (10): more where something else has the machine.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -ge 1 ] || { sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 2; }
seconds=$1 timeout=${FUZZ_TIMEOUT:-10}
shift
O=${O:-build}
jobs=$(nproc)
if [ $# -eq 0 ]; then
	for f in tests/fuzz/fuzz_*.c; do
		f=${f##*/fuzz_}
		set -- "$@" "${f%.c}"
	done
fi
make -s -j"$jobs" O="$O" "${@/#/$O/tests/fuzz/engine/fuzz_}" || { echo 'fuzz: 0 passed, 1 failed'; exit 1; }

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

fuzz_one()
{
	local name=$1 engine=$O/tests/fuzz/engine/fuzz_$1 corpus=tests/fuzz/corpus/$1 dir=$O/fuzz/$1
	local before after
	mkdir -p "$dir/found" "$corpus"
	before=$(find "$corpus" -type f | wc -l)
	if ! "$engine" -max_total_time="$seconds" -timeout="$timeout" -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$dir/" "$dir/found" "$corpus" >"$dir/log" 2>&1; then
		grep -aE 'ERROR|SUMMARY|BUG|Test unit' "$dir/log" | head -n 8 | sed 's/^/          /'
		printf '  FAIL    %s: see %s\n' "$name" "$dir/log"
		return 1
	fi
	# What was found before and now, as few as cover all of it; files with names that
	# somebody gave them stay.
	rm -rf "$dir/few"
	mkdir -p "$dir/few"
	find "$corpus" -type f -regextype posix-egrep ! -regex '.*/[0-9a-f]{40}' -exec cp -t "$dir/few" {} +
	"$engine" -set_cover_merge=1 -timeout="$timeout" -rss_limit_mb=2048 "$dir/few" "$corpus" "$dir/found" \
		>"$dir/merge.log" 2>&1 || {
		printf '  FAIL    %s: merging, see %s\n' "$name" "$dir/merge.log"
		return 1
	}
	find "$corpus" -type f -regextype posix-egrep -regex '.*/[0-9a-f]{40}' -delete
	cp -n "$dir/few"/* "$corpus/"
	rm -rf "$dir/few"
	rm -rf "$dir/found"
	after=$(find "$corpus" -type f | wc -l)
	printf '  ok      %-20s %10s runs, corpus %d -> %d\n' "$name" \
		"$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/log")" "$before" "$after"
}
export -f fuzz_one
export O seconds timeout failures=$O/fuzz.failed.$$
printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c 'fuzz_one {} || echo {} >>"$failures"'
failed=0
[ -f "$failures" ] && failed=$(wc -l <"$failures") && rm -f "$failures"
printf 'fuzz: %d passed, %d failed\n' $(($# - failed)) "$failed"
[ "$failed" -eq 0 ]
