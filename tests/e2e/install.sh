#!/bin/bash
# SPDX-License-Identifier: MIT
# What `make install` puts where (install.expected), and that it keeps a configuration which is there.
#   O=build tests/e2e/install.sh
set -u
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0
check() # WORDS COMMAND...
{
	local words=$1
	shift
	if "$@" >"$tmp/said" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf '  FAIL    install: %s\n' "$words"
		sed 's/^/          /' "$tmp/said"
	fi
}

put_in() # DESTDIR PREFIX
{
	(
		umask 077 # as some have it for root
		make -s O="$O" DESTDIR="$1" PREFIX="$2" install >"$tmp/printed" 2>&1 || cat "$tmp/printed"
	)
}
listed() # DESTDIR PREFIX
{
	sed "s|PREFIX|$2|" tests/e2e/install.expected | LC_ALL=C sort -k2 >"$tmp/want"
	(cd "$1" && find . ! -type d -printf '%m /%P\n') | LC_ALL=C sort -k2 >"$tmp/got"
	diff "$tmp/want" "$tmp/got"
}
printed() # each file is told of
{
	cut -d' ' -f2 "$tmp/want" >"$tmp/files"
	sed -n 's/^  INSTALL //p' "$tmp/printed" | LC_ALL=C sort | diff "$tmp/files" -
}
open_folders()
{
	! find "$1" -mindepth 1 -type d ! -perm 755 | grep .
}
digests()
{
	(cd "$1" && find . -type f ! -path './etc/*' -exec sha256sum {} + | sort -k2)
}
pages()
{
	local page
	for page in deploy/man/*.[1-9]; do
		gzip -dc "$1/share/man/man${page##*.}/$(basename "$page").gz" | diff -q - "$page" || return
	done
}
units() # of DESTDIR and PREFIX: that program, and no place holder
{
	local lib=$1$2/lib
	grep -qx "ExecStart=$2/sbin/tidegated\( .*\)\?" "$lib/systemd/system/tidegated.service" &&
		grep -qx "ExecStart=$2/sbin/tidegated --pin" "$lib/systemd/system/tidegate-early.service" &&
		! grep -rn '@[A-Z]*@' "$lib" "$1/etc"
}

n=0
for prefix in /usr/local /usr; do
	n=$((n + 1))
	root=$tmp/root$n
	check "$prefix: make install" put_in "$root" $prefix
	check "$prefix: the files are those of install.expected" listed "$root" $prefix
	check "$prefix: it says which" printed
	check "$prefix: everybody may enter the folders" open_folders "$root"
	check "$prefix: manual pages are whole" pages "$root$prefix"
	check "$prefix: units name the program" units "$root" $prefix
	for program in tidegate tidegated; do
		check "$prefix: $program is what was built" cmp "$O/$program" "$root$prefix/sbin/$program"
	done
done

conf=$root/etc/tidegate/tidegate.yaml
check 'the configuration is the example' cmp deploy/tidegate.yaml "$conf"
example()
{
	"$O/tidegate" policy check "$root$prefix/share/doc/tidegate/tidegate.yaml"
}
check 'the example is valid' example

# Once more, over what is there: a configuration of the administrator's, and old programs.
printf '# mine\n' >>"$conf"
chmod 600 "$conf"
cp -p "$conf" "$tmp/mine"
digests "$root" >"$tmp/first"
printf 'old\n' >"$root$prefix/sbin/tidegated"
chmod 700 "$root$prefix/sbin/tidegated"
check 'again: make install' put_in "$root" $prefix
check 'again: it says that the configuration is kept' grep -qx '  KEEP    /etc/tidegate/tidegate.yaml' "$tmp/printed"
check 'again: the configuration is as it was' cmp "$tmp/mine" "$conf"
same_mode()
{
	[ "$(stat -c '%a %Y' "$conf")" = "$(stat -c '%a %Y' "$tmp/mine")" ]
}
check 'again: its mode and time, too' same_mode
again()
{
	chmod 640 "$conf"
	listed "$root" $prefix && digests "$root" | diff "$tmp/first" -
}
check 'again: all else is as after the first time, to the byte' again

# What is not built is not left out without a word.
unbuilt()
{
	mkdir "$tmp/empty"
	! O=$tmp/empty PREFIX=/usr DESTDIR=$tmp/none scripts/install.sh
}
check 'without programs it fails' unbuilt

printf 'install: %d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
