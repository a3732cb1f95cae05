#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Broken peers on both sides of a real daemon: test_torture.py.
#   O=build tests/e2e/torture.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite torture test_torture.py
