#!/bin/sh
# SPDX-License-Identifier: MIT
# Targets whose protocol is not looked into: test_tcp.py.
#   O=build tests/e2e/tcp.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite tcp test_tcp.py
