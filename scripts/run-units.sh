#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs cmocka programs and adds up what they say.
#   run-units.sh PROGRAM...
set -u
passed=0 failed=0 skipped=0
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
for unit in "$@"; do
	name=$(basename "$unit")
	if CMOCKA_MESSAGE_OUTPUT=stdout "$unit" >"$out" 2>&1; then
		status=0
	else
		status=$?
	fi
	p=$(grep -c '^\[       OK \]' "$out")
	f=$(grep -c '^\[  FAILED  \] [a-z]' "$out")
	s=$(grep -c '^\[  SKIPPED \] [a-z]' "$out")
	[ "$s" -gt 0 ] && s=$((s / 2)) && [ "$s" -eq 0 ] && s=1
	if [ "$status" -ne 0 ]; then
		[ "$f" -gt 0 ] && f=$(((f + 1) / 2)) || f=1
		printf '  FAIL    %s (exit %s)\n' "$name" "$status"
		grep -v '^\[ RUN\|^\[       OK' "$out" | sed 's/^/          /' | head -60
	else
		printf '  ok      %-24s %3d passed%s\n' "$name" "$p" "$([ "$s" -gt 0 ] && printf ', %d skipped' "$s")"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
printf 'unit: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
