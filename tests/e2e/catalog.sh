#!/bin/sh
# SPDX-License-Identifier: MIT
# Column masks against the catalog of a real PostgreSQL: test_catalog.py.
#   O=build tests/e2e/catalog.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite catalog test_catalog.py
