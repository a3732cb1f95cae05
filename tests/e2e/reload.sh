#!/bin/sh
# SPDX-License-Identifier: MIT
# Reloads that move listeners, and that come in between: test_reload.py.
#   O=build tests/e2e/reload.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite reload test_reload.py
