#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the test identity provider, if it is not there yet, and prints where.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cache=${TIDEGATE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-tests}
dir=$cache/idp-$(sha256sum "$here/package-lock.json" | cut -c1-12)

if [ ! -d "$dir/node_modules/oidc-provider" ]; then
	command -v npm >/dev/null || exit 1
	mkdir -p "$cache" && new=$(mktemp -d "$cache/new-XXXXXX") || exit 1
	cp "$here/package.json" "$here/package-lock.json" "$new/" &&
		(cd "$new" && npm ci --no-audit --no-fund --silent >&2) || { rm -rf "$new"; exit 1; }
	# Two that install at once: the second finds the first one's work.
	mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
fi
# Modules are looked for beside the file that asks for them.
for f in "$here"/*.mjs; do
	to=$dir/$(basename "$f")
	cmp -s "$f" "$to" || { cp "$f" "$to.$$" && mv "$to.$$" "$to"; } || exit 1
done
printf '%s\n' "$dir"
