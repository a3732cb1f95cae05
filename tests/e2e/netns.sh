#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Agents in network namespaces and containers of their own: test_netns.py.
#   O=build tests/e2e/netns.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite netns test_netns.py
