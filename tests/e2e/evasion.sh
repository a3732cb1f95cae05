#!/bin/sh
# SPDX-License-Identifier: MIT
# An agent that tries to get round masks, denials and recordings: test_evasion.py.
#   O=build tests/e2e/evasion.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite evasion test_evasion.py
