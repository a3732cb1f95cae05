#!/bin/sh
# SPDX-License-Identifier: MIT
# Golden tests of the admin utility: help and output of every command, against
# a fake daemon and against none.
#   O=build tests/cli/run.sh [--update] [FILE...]
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
out=${O:-build}
[ -x "$out/tidegate" ] || { echo "cli: $out/tidegate is not built" >&2; exit 1; }
out=$(cd "$out" && pwd)
update=
[ "${1:-}" = --update ] && update=--update && shift

# A private place with a short name: paths of sockets are limited to 107 bytes.
tmp=$(mktemp -d /tmp/tgcli.XXXXXX) || exit 1
daemon=
cleanup() {
	exec 3>&-
	[ -n "$daemon" ] && wait "$daemon" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir "$tmp/bin" "$tmp/work"
ln -s "$out/tidegate" "$tmp/bin/tidegate"
cp -r "$here"/data/. "$tmp/work/"
# The daemon ends when its stdin does, also if this script is killed.
mkfifo "$tmp/stdin"
python3 "$here/fake_daemon.py" "$tmp/work" <"$tmp/stdin" >"$tmp/ready" 2>"$tmp/daemon.log" &
daemon=$!
exec 3>"$tmp/stdin"
i=0
until grep -q ready "$tmp/ready" 2>/dev/null; do
	i=$((i + 1))
	[ "$i" -gt 100 ] && { echo "cli: the fake daemon does not start"; cat "$tmp/daemon.log"; exit 1; }
	sleep 0.1
done

# What the machine is like must not show.
unset COLUMNS
export PATH="$tmp/bin:$PATH" LC_ALL=C TZ=UTC COMPLETION="$here/../../deploy/completion"
[ $# -gt 0 ] || set -- "$here"/*.exact "$here"/*.glob
python3 "$here/transcript.py" $update "$tmp/work" "$@" >"$tmp/report" || { cat "$tmp/report"; exit 1; }
sed '$d' "$tmp/report"
tail -n 1 "$tmp/report" >"$tmp/counts"
read -r passed failed <"$tmp/counts"
printf 'cli: %d passed, %d failed, %d skipped\n' "$passed" "$failed" 0
[ -s "$tmp/daemon.log" ] && { echo "cli: the fake daemon said:"; cat "$tmp/daemon.log"; exit 1; }
[ "$failed" -eq 0 ]
