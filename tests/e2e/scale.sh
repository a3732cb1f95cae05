#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Many sessions: idle, held, and one after the other; more of them with TIDEGATE_TIER=full.
#   O=build tests/e2e/scale.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite scale test_scale.py
