#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# How access ends: time, process, token, policy; and what may finish: test_lease.py.
#   O=build tests/e2e/lease.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite lease test_lease.py
