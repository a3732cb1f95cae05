#!/bin/sh
# SPDX-License-Identifier: MIT
# PostgreSQL's own regression suite over TCP, once direct and once through Tidegate
# with an allow-all policy, recording and detectors on: every test must end the same.
# tier: full
#   O=build tests/e2e/regress.sh
cd "$(dirname "$0")/../.." || exit 1
if [ "$(id -u)" -ne 0 ]; then
	printf '  skip    regress: needs root\nregress: 0 passed, 0 failed, 1 skipped\n'
	exit 0
fi
exec /usr/bin/python3 tests/e2e/regress.py
