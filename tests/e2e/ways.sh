#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Approvals by people and decision points elsewhere, as a user of psql lives them: test_ways.py.
#   O=build tests/e2e/ways.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite ways test_ways.py
