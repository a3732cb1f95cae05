#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Agents' own workload tokens, read where the agents are, and rules about who asks: test_token.py, test_saml_token.py.
#   O=build tests/e2e/token.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite token test_token.py test_saml_token.py
