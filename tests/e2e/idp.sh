#!/bin/sh
# SPDX-License-Identifier: MIT
# Access by grant of a real identity provider: test_idp.py.
#   O=build tests/e2e/idp.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite idp test_idp.py
