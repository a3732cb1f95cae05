#!/bin/sh
# SPDX-License-Identifier: MIT
# Listeners that a service manager keeps while no daemon runs: test_kept.py.
# tier: full
#   O=build tests/e2e/kept.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite kept test_kept.py
