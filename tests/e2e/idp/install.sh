#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the test identity provider, if it is not there yet, and prints where.
#   install.sh [DIR]    or what the package.json in DIR names
set -u
here=$(cd "${1:-$(dirname "$0")}" && pwd) || exit 1
cache=${TIDEGATE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-tests}
dir=$cache/$(basename "$here")-$(sha256sum "$here/package-lock.json" | cut -c1-12)

if [ ! -d "$dir/node_modules" ]; then
	command -v npm >/dev/null || exit 1
	mkdir -p "$cache" && new=$(mktemp -d "$cache/new-XXXXXX") || exit 1
	cp "$here/package.json" "$here/package-lock.json" "$new/" &&
		(cd "$new" && npm ci --no-audit --no-fund --silent >&2) || { rm -rf "$new"; exit 1; }
	# Two that install at once: the second finds the first one's work.
	mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
fi
# Modules are looked for beside the file that asks for them.
for f in "$here"/*.mjs; do
	[ -f "$f" ] || continue
	to=$dir/$(basename "$f")
	cmp -s "$f" "$to" || { cp "$f" "$to.$$" && mv "$to.$$" "$to"; } || exit 1
done
printf '%s\n' "$dir"
