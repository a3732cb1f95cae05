#!/bin/bash
# SPDX-License-Identifier: MIT
# Boots Debian with its systemd in a machine that qemu emulates, with Tidegate put there by `make install`,
# and checks what the units promise: see README.md here.
#   tests/vm/systemd.sh            O=DIR: the build folder
#   VM_CACHE=DIR                   where the base system is kept (default $O/vm)
#   VM_SECONDS=N                   how long it may take (default 2400)
#   VM_KEEP=1                      leaves the machine's disk and its console there
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build} cache=${VM_CACHE:-${O:-build}/vm}
for tool in qemu-system-x86_64 mmdebstrap mke2fs; do
	if ! command -v "$tool" >/dev/null || [ "$(id -u)" -ne 0 ]; then
		printf '  skip    vm: needs root and %s\nvm: 0 passed, 0 failed, 1 skipped\n' "$tool"
		exit 0
	fi
done
make -s O="$O" all "$O/tests/e2e/connect_load"
# shellcheck disable=SC1091
. /etc/os-release
case $ID in
ubuntu) kernel=linux-image-kvm ;;
*) kernel=linux-image-cloud-amd64 ;;
esac
pg=$(basename "$(dirname "$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)")")

# The libraries of this host's release that the programs were linked with.
libraries=$(ldd "$O/tidegated" "$O/tidegate" | awk '/=>/ { print $3 }' | sort -u | xargs readlink -f |
	xargs dpkg-query -S 2>/dev/null | cut -d: -f1 | sort -u | paste -sd,)
packages=systemd,systemd-sysv,dbus,udev,$kernel,initramfs-tools,iproute2,procps,postgresql-$pg,$libraries
base=$cache/$VERSION_CODENAME-$(printf '%s' "$packages" | sha256sum | cut -c1-12).tar
mkdir -p "$cache"
if [ ! -e "$base" ]; then
	echo "vm: a base system of $VERSION_CODENAME is made, from the mirror that apt uses here"
	mmdebstrap --variant=minbase --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
		--essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/vm"' \
		--essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"' \
		"$VERSION_CODENAME" "$base.new.tar" >"$base.log" 2>&1 || { tail -n 20 "$base.log"; exit 1; }
	mv "$base.new.tar" "$base"
fi

tmp=$(mktemp -d)
clean() { [ "${VM_KEEP:-}" ] && echo "vm: left in $tmp" || rm -rf "$tmp"; }
trap clean EXIT
root=$tmp/root
mkdir "$root"
tar -xf "$base" -C "$root"
cp -r tests/vm/root/. "$root/"
chmod 640 "$root/etc/tidegate/tidegate.yaml"
mkdir -p "$root/opt/test"
cp "$O/tests/e2e/connect_load" tests/vm/guest.sh "$root/opt/test/"
make -s O="$O" install DESTDIR="$root" PREFIX=/usr/local >/dev/null
for unit in vm-first vm-agent vm-load; do
	install -D -m 644 "$root/usr/local/share/doc/tidegate/agent.conf" \
		"$root/etc/systemd/system/$unit.service.d/tidegate.conf"
done
# Emulated, loading the programs alone takes longer than a service may.
for unit in tidegated vm-test vm-agent; do
	mkdir -p "$root/etc/systemd/system/$unit.service.d"
	printf '[Service]\nTimeoutStartSec=600\n' >"$root/etc/systemd/system/$unit.service.d/slow.conf"
done
# As an administrator does it. The accounts are made at boot, from sysusers.d.
systemctl --root="$root" -q enable tidegate-early tidegated vm-stub vm-first vm-test
systemctl --root="$root" -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
echo tidegate-vm >"$root/etc/hostname"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
printf 'host all all 127.0.0.1/32 trust\nlocal all all trust\n' >"$root/etc/postgresql/$pg/main/pg_hba.conf"
echo 'fsync = off' >"$root/etc/postgresql/$pg/main/conf.d/vm.conf"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/vm.conf"
mkdir -p "$root/var/log/journal"
cp "$root"/boot/vmlinuz-* "$tmp/kernel"
cp "$root"/boot/initrd.img-* "$tmp/initrd"
mke2fs -q -t ext4 -d "$root" "$tmp/disk" 2500M
rm -rf "$root"

touch "$tmp/said"
tail -n +1 -f "$tmp/said" --pid=$$ & # what it says, while it says it
tail=$!
status=0
timeout "${VM_SECONDS:-2400}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1536 -smp 2 -display none \
	-serial "file:$tmp/console" -serial "file:$tmp/said" -nic none \
	-drive "file=$tmp/disk,format=raw,if=virtio,cache=unsafe" -kernel "$tmp/kernel" -initrd "$tmp/initrd" \
	-append "root=/dev/vda rw console=ttyS0 panic=30 systemd.show_status=0" </dev/null || status=$?
sleep 1
kill $tail 2>/dev/null || true
tr -d '\r' <"$tmp/said" >"$tmp/all"
passed=$(grep -c '^  ok ' "$tmp/all" || true)
failed=$(grep -c '^  FAIL ' "$tmp/all" || true)
if ! grep -q '^vm: all done$' "$tmp/all"; then
	failed=$((failed + 1))
	printf '  FAIL    vm: it has not come to its end (qemu: %s); the console said last:\n' "$status"
	tail -n 30 "$tmp/console"
fi
printf 'vm: %d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
