#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# TLS between Tidegate and the server, the short way: test_tls.py. All of it: tls_all.sh.
#   O=build tests/e2e/tls.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite tls test_tls.py -k 'main or bad_server or certificate_logs_in or passes_through'
