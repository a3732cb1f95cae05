#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# Grants that the identity provider takes back, or can not confirm: test_recheck.py.
#   O=build tests/e2e/recheck.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite recheck test_recheck.py
