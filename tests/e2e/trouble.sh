#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# End to end with a real PostgreSQL and a real daemon: test_trouble.py.
#   O=build tests/e2e/trouble.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite trouble test_trouble.py
