#!/bin/sh
# SPDX-License-Identifier: MIT
# One upgrade in place, with everything that must live on: test_upgrade.py.
#   O=build tests/e2e/upgrade.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite upgrade test_upgrade.py
