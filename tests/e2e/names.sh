#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Targets given by name, with a name server of our own: test_names.py.
#   O=build tests/e2e/names.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite names test_names.py
