#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# Upgrades under load, many in a row, to broken binaries, and killed: test_upgrades.py.
#   O=build tests/e2e/upgrades.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite upgrades test_upgrades.py
