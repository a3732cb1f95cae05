#!/bin/sh
# SPDX-License-Identifier: MIT
# tier: long
# The OpenID Connect client against a real identity provider.
#   O=build tests/e2e/ident.sh
# The provider is installed once, by npm, under $TIDEGATE_TEST_CACHE.
set -u
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
skip() { printf '  skip    ident: %s\nident: 0 passed, 0 failed, 1 skipped\n' "$1"; exit 0; }

command -v node >/dev/null || skip "no node"
command -v python3 >/dev/null || skip "no python3"
installed=$(tests/e2e/idp/install.sh) || skip "npm cannot install the test identity provider"
make -s O="$O" "$O/tests/e2e/oidc_probe" "$O/tests/e2e/authd_probe" || { echo "ident: 0 passed, 1 failed, 0 skipped"; exit 1; }
exec python3 tests/e2e/test_ident.py "$O/tests/e2e" "$installed"
