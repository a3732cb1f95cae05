#!/bin/sh
# SPDX-License-Identifier: MIT
# The token of the grant as the password: test_jit.py.
# tier: long
#   O=build tests/e2e/jit_all.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite jit_all test_jit.py
