#!/bin/sh
# SPDX-License-Identifier: MIT
# `tidegate agent run` with attacks from inside, a real daemon and PostgreSQL: test_launch.py.
#   O=build tests/e2e/launch.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite launch test_launch.py
