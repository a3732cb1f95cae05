#!/bin/sh
# SPDX-License-Identifier: MIT
# Clients of others, through the gate and without it: test_clients.py.
#   O=build tests/e2e/clients.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite clients test_clients.py
