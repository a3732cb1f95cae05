#!/bin/sh
# SPDX-License-Identifier: MIT
# End to end with a real PostgreSQL and a real daemon: test_main_job.py.
#   O=build tests/e2e/main.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite main test_main_job.py
