#!/bin/sh
# SPDX-License-Identifier: MIT
# Tests of the BPF programs on the running kernel: builds and runs them as root.
#   run.sh [ROW]      O=DIR: the build folder
#   run.sh -m | -j    the bypass matrix alone, as a table or as JSON
#   run.sh -b         the verifier's instruction counts, as lines of verifier.baseline
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
if [ "$(id -u)" -ne 0 ]; then
	echo "  skip    bpf: takes root"
	echo "bpf: 0 passed, 0 failed, 1 skipped"
	exit 0
fi
make -s O="$O" "$O/tests/bpf/test_bpf"
# What a run that crashed left behind; its name ends in its pid.
sweep()
{
	for left in /sys/fs/bpf/tgtest-* $(findmnt -n -t cgroup2 -o TARGET | head -1)/tgtest-*; do
		pid=${left##*tgtest-}
		pid=${pid%-x}
		[ -d "$left" ] && [ ! -d "/proc/$pid" ] || continue
		case $left in
		/sys/fs/bpf/*) rm -rf "$left" ;;
		*) find "$left" -depth -type d -exec rmdir {} + ;;
		esac
	done
}
sweep
exec "$O/tests/bpf/test_bpf" "$@"
