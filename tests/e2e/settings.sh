#!/bin/sh
# SPDX-License-Identifier: MIT
# Settings of the daemon itself over a reload: test_settings.py.
#   O=build tests/e2e/settings.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite settings test_settings.py
