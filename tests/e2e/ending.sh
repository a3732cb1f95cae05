#!/bin/sh
# SPDX-License-Identifier: MIT
# What an approval is worth afterwards, and how access ends: test_ending.py.
#   O=build tests/e2e/ending.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite ending test_ending.py
