# SPDX-License-Identifier: MIT
# Runs pytest modules as one suite, with the counts that check-more.sh reads.
#   . tests/e2e/lib-pytest.sh; pytest_suite NAME FILE...
pytest_suite()
{
	suite=$1
	shift
	if [ "$(id -u)" -ne 0 ]; then
		printf '  skip    %s: needs root\n%s: 0 passed, 0 failed, 1 skipped\n' "$suite" "$suite"
		return 0
	fi
	out=$(mktemp) || return 1
	# Debian's own interpreter: its packages bring pytest and psycopg2.
	(cd tests/e2e && /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --tb=short "$@") >"$out" 2>&1
	status=$?
	sed -n 's/^SKIPPED \[[0-9]*\] \([^:]*\):[0-9]*: /  skip    \1: /p' "$out"
	[ $status -eq 0 ] || grep -v '^  skip' "$out" | tail -n 200
	count() { sed -n "s/.*[^0-9]\([0-9][0-9]*\) $1.*/\1/p" <<EOF | tail -n 1
 $(tail -n 1 "$out")
EOF
	}
	p=$(count passed) f=$(count failed) s=$(count skipped) e=$(count error)
	rm -f "$out"
	[ $status -le 1 ] || f=$((${f:-0} + 1))
	printf '%s: %d passed, %d failed, %d skipped\n' "$suite" "${p:-0}" "$((${f:-0} + ${e:-0}))" "${s:-0}"
	[ "$((${f:-0} + ${e:-0}))" -eq 0 ]
}
