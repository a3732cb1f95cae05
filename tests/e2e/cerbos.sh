#!/bin/sh
# SPDX-License-Identifier: MIT
# Approvals by a real policy decision point, Cerbos, which npm installs once: test_cerbos.py.
#   tier: full (test_ways.py has a decision point of its own)
#   O=build tests/e2e/cerbos.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite cerbos test_cerbos.py
