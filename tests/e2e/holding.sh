#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# What waits for an approval; longer and more of it with TIDEGATE_TIER=full: test_holding.py.
#   O=build tests/e2e/holding.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite holding test_holding.py
