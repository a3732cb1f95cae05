#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the BPF tests on another kernel, in a machine that qemu emulates.
#   vm.sh VMLINUZ [ROW]     O=DIR: the build folder; VM_SECONDS=N: then it is ended (all rows: 30 min and more)
# A kernel image comes from a package, unpacked with dpkg -x (linux-image-*-cloud-amd64).
set -eu
kernel=$(realpath "${1:?usage: vm.sh VMLINUZ [ROW]}")
row=${2:-}
cd "$(dirname "$0")/../.."
O=${O:-build}
for tool in qemu-system-x86_64 busybox; do
	if ! command -v "$tool" >/dev/null; then
		echo "  skip    bpf in a machine: no $tool"
		echo "bpf: 0 passed, 0 failed, 1 skipped"
		exit 0
	fi
done
make -s O="$O" "$O/tests/bpf/test_bpf"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root
mkdir -p "$root"/{bin,usr/sbin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
ln -s busybox "$root/bin/true"
chmod 1777 "$root/tmp"
cp "$O/tests/bpf/test_bpf" tests/bpf/verifier.baseline "$root/"
cp "$(command -v bpftool || echo /usr/sbin/bpftool)" "$root/usr/sbin/bpftool"
for program in busybox:bin/busybox test_bpf:test_bpf bpftool:usr/sbin/bpftool; do
	{ ldd "$root/${program#*:}" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$root$(dirname "$lib")"
		cp -nL "$lib" "$root$lib"
	done
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
export PATH=/bin:/usr/sbin TG_VERIFIER_BASELINE=/verifier.baseline TG_ROW_SECONDS=900
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox mount -t bpf bpf /sys/fs/bpf
echo "kernel \$(busybox uname -r)"
/test_bpf '$row'
busybox poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$tmp/initrd.gz"
timeout "${VM_SECONDS:-3600}" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 1 -nographic -no-reboot \
	-kernel "$kernel" -initrd "$tmp/initrd.gz" -append "console=ttyS0 quiet panic=-1" \
	</dev/null 2>&1 | tr -d '\r' | sed -n '/kernel [0-9]/,$p' |
	tee "$tmp/out"
grep -qE '^bpf: [1-9][0-9]* passed, 0 failed' "$tmp/out"
