#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# End to end with a real PostgreSQL and a real daemon: test_rules.py.
#   O=build tests/e2e/rules.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite rules test_rules.py
