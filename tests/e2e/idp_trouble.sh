#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# Every kind of trouble with the identity provider, through the whole daemon: test_idp_trouble.py.
#   O=build tests/e2e/idp_trouble.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite idp_trouble test_idp_trouble.py
