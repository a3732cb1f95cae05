#!/bin/bash
# SPDX-License-Identifier: MIT
# The units of deploy/systemd as systemd reads them: valid, and in an order in which no agent runs before the
# gate is pinned.
#   tests/e2e/units.sh
set -u
cd "$(dirname "$0")/../.." || exit 1
if ! command -v systemd-analyze >/dev/null || ! command -v systemctl >/dev/null; then
	printf '  skip    units: no systemd here\nunits: 0 passed, 0 failed, 1 skipped\n'
	exit 0
fi
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
		printf '  FAIL    units: %s\n' "$words"
		sed 's/^/          /' "$tmp/said"
	fi
}

root=$tmp/root
units=$root/etc/systemd/system
mkdir -p "$units/agent.service.d" "$tmp/sbin"
printf '#!/bin/sh\n' >"$tmp/sbin/tidegated"
chmod +x "$tmp/sbin/tidegated"
for f in deploy/systemd/*.service deploy/systemd/*.slice; do
	sed "s|@PREFIX@|$tmp|g" "$f" >"$units/$(basename "$f")"
done
printf '[Service]\nExecStart=/bin/true\n' >"$units/agent.service"
cp deploy/systemd/agent.conf "$units/agent.service.d/tidegate.conf"

# A wrong key or value is only a warning of systemd's, which goes on without it.
valid()
{
	SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no "$units/$1" >"$tmp/out" 2>&1
	status=$?
	grep -F "$units" "$tmp/out" && return 1
	grep -E "^($1|tidegate|agent)[^ ]*: " "$tmp/out" && return 1
	[ $status -eq 0 ]
}
for u in tidegate-early.service tidegated.service agents.slice agent.service; do
	check "systemd takes $u as it is" valid "$u"
done
rejects()
{
	sed 's/^Slice=/Slise=/' deploy/systemd/agent.conf >"$units/agent.service.d/tidegate.conf"
	valid agent.service
	local r=$?
	cp deploy/systemd/agent.conf "$units/agent.service.d/tidegate.conf"
	[ $r -ne 0 ]
}
check 'a misspelt key would be found' rejects

# KEY of UNIT has WORD.
has()
{
	sed -n "s/^$2=//p" "$units/$1" | tr ' ' '\n' | grep -qxF -- "$3"
}
early=tidegate-early.service
for what in sysinit.target basic.target tidegated.service agents.slice; do
	check "the early unit is before $what" has $early Before "$what"
done
# With default dependencies it would come after sysinit.target, which it has to precede.
check 'the early unit has no default dependencies' has $early DefaultDependencies no
check 'the early unit ends before the machine does' has $early Conflicts shutdown.target
check 'the early unit stays, so that it is not run twice' has $early RemainAfterExit yes
for what in /sys/fs/bpf /sys/fs/cgroup /var/lib/tidegate /etc/tidegate; do
	check "the early unit has $what" has $early RequiresMountsFor "$what"
done
# Before local file systems there is no configuration; the network comes later.
check 'the early unit is after the file systems' has $early After local-fs.target
not_after()
{
	! sed -n 's/^\(After\|Wants\|Requires\)=//p' "$units/$early" | grep -E 'network|nss-lookup|sysinit|basic'
}
check 'the early unit waits for nothing that comes after it' not_after
pins()
{
	grep -qx "ExecStart=$tmp/sbin/tidegated --pin" "$units/$early" && has $early Type oneshot
}
check 'the early unit pins, and is done when that is done' pins
for u in agents.slice agent.service.d/tidegate.conf; do
	check "$u requires the early unit" has $u Requires $early
	check "$u comes after it" has $u After $early
done
check 'the daemon comes after it' has tidegated.service After $early
check 'the drop-in is in the slice' has agent.service.d/tidegate.conf Slice agents.slice
# A condition that does not hold counts as success for who requires the unit: agents would run.
unconditional()
{
	! grep '^Condition' "$units/$early" "$units/agents.slice"
}
check 'without a configuration it fails, and is not left out' unconditional
enabled()
{
	systemctl --root="$root" enable $early >/dev/null 2>&1
	[ -L "$units/sysinit.target.wants/$early" ] && [ -L "$units/agents.slice.requires/$early" ]
}
check 'enabled, it is wanted by sysinit.target and required by agents.slice' enabled
printf 'units: %d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
