#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# Logins in the agent's place, the short way: test_creds.py. All of it: creds_all.sh.
#   O=build tests/e2e/creds.sh
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib-pytest.sh
pytest_suite creds test_creds.py -k 'scram-sha-256 or a_program_tells or psycopg2 or keyd_dies'
