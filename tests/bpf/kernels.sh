#!/bin/bash
# SPDX-License-Identifier: MIT
# The BPF tests on the kernels of Debian 12, in machines that qemu emulates: fetches each from
# the mirror that apt uses and says for each what came of it.
#   kernels.sh [6.1|6.12]...    both unless told; O=DIR: the build folder
#                               VM_CACHE=DIR: where kernels are kept ($O/vm)
# All rows of a kernel take 30 minutes and more, so this is run on demand. What it needs:
# scripts/setup.sh --vm
set -u
cd "$(dirname "$0")/../.." || exit 1
export O=${O:-build}
cache=${VM_CACHE:-$O/vm}
[ $# -gt 0 ] || set -- 6.1 6.12

# The newest package of that version that apt knows: the one that the meta-package asks for.
package_of()
{
	local meta=linux-image-cloud-amd64
	[ "$1" = 6.1 ] || meta=linux-image-$1-cloud-amd64
	apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: //p' | grep -m 1 "^linux-image-$1[.]"
}

# Prints the image's path.
fetch()
{
	local package dir image
	package=$(package_of "$1")
	if [ -z "$package" ]; then
		echo "no package with a kernel $1 (apt-get update?)" >&2
		return 1
	fi
	dir=$cache/$package
	if [ ! -d "$dir/boot" ]; then
		rm -rf "$dir.new" && mkdir -p "$dir.new" || return 1
		echo "fetching $package" >&2
		(cd "$dir.new" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2 || return 1
		dpkg -x "$dir.new"/*.deb "$dir.new" || return 1
		rm -rf "$dir.new"/*.deb "$dir.new/lib/modules" "$dir"
		mv "$dir.new" "$dir" || return 1
	fi
	for image in "$dir"/boot/vmlinuz-*; do
		echo "$image"
	done
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0 report=
for version; do
	printf '== kernel %s\n' "$version"
	if image=$(fetch "$version"); then
		tests/bpf/vm.sh "$image" | tee "$log"
	else
		echo "bpf: 0 passed, 1 failed, 0 skipped" | tee "$log"
	fi
	counts=$(sed -nE 's/^bpf: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped.*/\1 \2 \3/p' "$log" | tail -1)
	counts=${counts:-0 1 0} # ended without them
	read -r p f s <<<"$counts"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	report+=$(printf '%-8s %s passed, %s failed, %s skipped' "$version" "$p" "$f" "$s")$'\n'
done
printf '\n%s' "$report"
echo "kernels: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
