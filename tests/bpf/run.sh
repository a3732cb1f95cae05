#!/bin/sh
# SPDX-License-Identifier: MIT
# Tests of the BPF programs on the running kernel: builds and runs them as root.
#   run.sh [ROW]      O=DIR: the build folder
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
if [ "$(id -u)" -ne 0 ]; then
	echo "  skip    bpf: takes root"
	echo "bpf: 0 passed, 0 failed, 1 skipped"
	exit 0
fi
make -s O="$O" "$O/tests/bpf/test_bpf"
exec "$O/tests/bpf/test_bpf" "$@"
