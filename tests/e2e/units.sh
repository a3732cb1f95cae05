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

# With the capabilities that the unit leaves it, and no others.
O=${O:-build} skipped=0
capabilities()
{
	sed -n 's/^CapabilityBoundingSet=//p' "$units/$1" | tr ' ' '\n' | sed 's/^CAP_/+/' | tr 'A-Z' 'a-z' | paste -sd,
}
own=/sys/fs/bpf/tidegate-units-$$
trap 'rm -rf "$tmp" "$own"' EXIT
pinned()
{
	mkdir -p "$tmp/state" &&
		cat >"$tmp/pin.yaml" <<-YAML &&
			daemon: { run_dir: $tmp/run, state_dir: $tmp/state, bpf_dir: $own }
			recording: { dir: $tmp/recordings }
			agents: { bot: { uid: [4294900000] } }
			targets: { t: { address: "192.0.2.1:5432", protocol: postgresql } }
			policy: [{ agents: [bot], targets: [t], access: { approval: none } }]
		YAML
		setpriv --no-new-privs --bounding-set="-all,$(capabilities $early)" "$O/tidegated" --pin -c "$tmp/pin.yaml" &&
		[ -e "$own/v1" ]
}
if [ "$(id -u)" -ne 0 ] || [ ! -x "$O/tidegated" ] || ! "$O/tidegate" -j feature probe 2>/dev/null | grep -q '"bpf"'; then
	skipped=1
	printf '  skip    units: pinning needs root, a build and BPF\n'
else
	check 'the early unit may do all that pinning takes' pinned
fi
printf 'units: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
