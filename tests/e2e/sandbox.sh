#!/bin/sh
# SPDX-License-Identifier: MIT
# What the kernel says of the children of a running daemon: test_sandbox.py.
#   O=build tests/e2e/sandbox.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite sandbox test_sandbox.py
