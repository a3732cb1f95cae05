#!/bin/sh
# SPDX-License-Identifier: MIT
# Roles that live as long as a grant, the short way: test_roles.py. All of it: roles_all.sh.
#   O=build tests/e2e/roles.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite roles test_roles.py -k 'nothing_else or daemon_is_killed'
