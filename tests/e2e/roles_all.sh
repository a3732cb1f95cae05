#!/bin/sh
# SPDX-License-Identifier: MIT
# Roles that live as long as a grant: test_roles.py.
# tier: full
#   O=build tests/e2e/roles_all.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite roles_all test_roles.py
