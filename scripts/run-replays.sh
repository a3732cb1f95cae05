#!/bin/sh
# SPDX-License-Identifier: MIT
# Replays the corpus of each fuzz target without an engine.
#   run-replays.sh PROGRAM...   (PROGRAM is named fuzz_X, its corpus tests/fuzz/corpus/X)
set -u
passed=0 failed=0
for replay in "$@"; do
	name=$(basename "$replay")
	corpus=tests/fuzz/corpus/${name#fuzz_}
	n=$(find "$corpus" -type f 2>/dev/null | wc -l)
	if [ "$n" -eq 0 ]; then
		printf '  FAIL    %s: no corpus in %s\n' "$name" "$corpus"
		failed=$((failed + 1))
	elif "$replay" "$corpus"; then
		printf '  ok      %-24s %5d inputs\n' "$name" "$n"
		passed=$((passed + 1))
	else
		printf '  FAIL    %s\n' "$name"
		failed=$((failed + 1))
	fi
done
printf 'fuzz replay: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
