#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# Volumes of rows and bytes through a real daemon: test_volume.py.
#   O=build tests/e2e/volume.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite volume test_volume.py
