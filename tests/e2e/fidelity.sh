#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# What an agent can tell of a daemon between it and its target: test_fidelity.py. With
# TIDEGATE_FULL=1 also streams of more than 4 GiB.
#   O=build tests/e2e/fidelity.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
table=$(mktemp) || exit 1
export FIDELITY_TABLE="$table"
pytest_suite fidelity test_fidelity.py >"$table.out"
status=$?
cat "$table" "$table.out"
rm -f "$table" "$table.out"
exit $status
