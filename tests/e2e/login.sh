#!/bin/sh
# SPDX-License-Identifier: MIT
# Logins, the catalog's password, observing, reload by signal: test_login.py.
#   O=build tests/e2e/login.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite login test_login.py
