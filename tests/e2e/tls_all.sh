#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: full
# TLS between Tidegate and the server: masks, bulk, cancel, roles, reloads, a man in the middle.
#   O=build tests/e2e/tls_all.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite tls_all test_tls.py -k 'not (main or bad_server or certificate_logs_in or passes_through)'
