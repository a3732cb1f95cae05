#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# The accelerator under a real daemon: test_accel.py.
#   O=build tests/e2e/accel.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite accel test_accel.py
