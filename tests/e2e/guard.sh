#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Boot, death and what others do to the kernel side, with a real daemon and PostgreSQL: test_guard.py.
#   O=build tests/e2e/guard.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite guard test_guard.py
