#!/bin/sh
# SPDX-License-Identifier: MIT
# Logins in the agent's place: test_creds.py.
# tier: full
#   O=build tests/e2e/creds_all.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite creds_all test_creds.py
