#!/bin/bash
# SPDX-License-Identifier: MIT
# Called by `make install`: programs, manual pages, completion, units, example.
#   O=build PREFIX=/usr/local DESTDIR= VERSION=0.1.0 scripts/install.sh
# A configuration that is there already is left as it is.
set -eu
# Whatever is root's: what is installed is for everybody to read.
umask 022
cd "$(dirname "$0")/.."
O=${O:-build} PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-} VERSION=${VERSION:-0}
root=$DESTDIR$PREFIX
# Where systemd looks for units of packages and of the administrator's own programs.
case $PREFIX in
/usr) lib=$DESTDIR/usr/lib ;;
*) lib=$root/lib ;;
esac

put() { # MODE SOURCE DESTINATION
	mkdir -p "$(dirname "$3")"
	install -m "$1" "$2" "$3"
	printf '  INSTALL %s\n' "${3#"$DESTDIR"}"
}

put 755 "$O/tidegated" "$root/sbin/tidegated"
put 755 "$O/tidegate" "$root/sbin/tidegate"

for page in deploy/man/*.[1-9]; do
	section=${page##*.}
	to=$root/share/man/man$section/$(basename "$page").gz
	mkdir -p "$(dirname "$to")"
	# Without the time of day, so that two builds are the same.
	gzip -9n <"$page" >"$to.new"
	chmod 644 "$to.new"
	mv "$to.new" "$to"
	printf '  INSTALL %s\n' "${to#"$DESTDIR"}"
done

put 644 deploy/completion/tidegate.bash "$root/share/bash-completion/completions/tidegate"
put 644 deploy/completion/_tidegate "$root/share/zsh/site-functions/_tidegate"

for unit in deploy/systemd/*.service deploy/systemd/*.slice; do
	to=$lib/systemd/system/$(basename "$unit")
	mkdir -p "$(dirname "$to")"
	sed "s|@PREFIX@|$PREFIX|g" "$unit" >"$to"
	chmod 644 "$to"
	printf '  INSTALL %s\n' "${to#"$DESTDIR"}"
done
put 644 deploy/systemd/sysusers.conf "$lib/sysusers.d/tidegate.conf"
put 644 deploy/systemd/tmpfiles.conf "$lib/tmpfiles.d/tidegate.conf"

put 644 deploy/systemd/agent.conf "$root/share/doc/tidegate/agent.conf"
put 644 deploy/tidegate.yaml "$root/share/doc/tidegate/tidegate.yaml"
put 644 README.md "$root/share/doc/tidegate/README.md"
put 644 LICENSE "$root/share/doc/tidegate/LICENSE"
if [ ! -e "$DESTDIR/etc/tidegate/tidegate.yaml" ]; then
	install -d -m 755 "$DESTDIR/etc/tidegate"
	put 640 deploy/tidegate.yaml "$DESTDIR/etc/tidegate/tidegate.yaml"
else
	printf '  KEEP    %s\n' /etc/tidegate/tidegate.yaml
fi
