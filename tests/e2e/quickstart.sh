#!/bin/sh
# SPDX-License-Identifier: MIT
# scripts/quickstart.sh, as somebody new runs it: test_quickstart.py.
# tier: full
#   O=build tests/e2e/quickstart.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite quickstart test_quickstart.py
