#!/bin/sh
# SPDX-License-Identifier: MIT
# The token of the grant as the password, the short way: test_jit.py. All of it: jit_all.sh.
#   O=build tests/e2e/jit.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite jit test_jit.py -k "is_the_password or keyd_lost"
