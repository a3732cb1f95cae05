#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# Second round of an agent against masks and approvals: test_leaks.py.
#   O=build tests/e2e/leaks.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite leaks test_leaks.py
