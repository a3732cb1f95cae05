#!/bin/bash
# SPDX-License-Identifier: MIT
# Run inside the machine by vm-test.service, once after each boot. What it prints goes to the second serial
# line, where systemd.sh reads it: `  ok    WORDS` or `  FAIL  WORDS` and what the command said.
exec >/dev/ttyS1 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat
early=tidegate-early.service daemon=tidegated.service config=/etc/tidegate/tidegate.yaml

check() # WORDS COMMAND...
{
	local words=$1 begin=$SECONDS
	shift
	if "$@" >/tmp/said 2>&1; then
		printf '  ok    %s (%d s)\n' "$words" $((SECONDS - begin))
	else
		printf '  FAIL  %s\n' "$words"
		sed 's/^/          /' /tmp/said | tail -n 30
	fi
}

within() # SECONDS COMMAND...: until it is so
{
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

show() { systemctl show -P "$2" "$1"; }
is() { [ "$(show "$1" "$2")" = "$3" ] || { systemctl status "$1"; return 1; }; }
pid() { show $daemon MainPID; }
# Where the stub target counts who came, and which of them had not been steered.
unsteered() { tail -n 1 /run/vm-stub | cut -d' ' -f2; }
none_unsteered() { sleep 0.6; [ "$(unsteered)" = "$before_unsteered" ] || { cat /run/vm-stub | tail -n 3; return 1; }; }

ask() # SQL: the agent's answer
{
	printf '%s\n' "$1" >/run/vm-query
	rm -f /run/vm-answer
	systemctl start vm-agent.service
	cat /run/vm-answer
}
answers() { [ "$(ask "$1")" = "$2" ] || { ask "$1"; return 1; }; }
complains() { ask "$1" | grep -q "$2" || { ask "$1"; return 1; }; }
works() { answers 'SELECT 40 + 2' 42; }
# The server is there: it is the kernel side that says so.
refused() { complains 'SELECT 40 + 2' 'Operation not permitted\|Connection refused'; }

load_start()
{
	rm -f /run/vm-enough
	before_unsteered=$(unsteered)
	systemctl start vm-load.service && sleep 2
}
load_end() # its sums are in /run/vm-load
{
	sleep "${1:-2}"
	touch /run/vm-enough
	within 300 grep -q ok /run/vm-load
	printf '  info  load: %s\n' "$(cat /run/vm-load)" >/dev/ttyS1
	within 10 is vm-load.service ActiveState inactive
}
sum() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" /run/vm-load; }
lost_at_most() { [ "$(sum ok)" -gt 0 ] && [ "$(sum failed)" -le "$1" ] || { cat /run/vm-load; sort /run/vm-load-errors | uniq -c; return 1; }; }
listener() { tidegate -j map dump tg_listeners; }

# ------------------------------------------------------------------------------ what is checked

in_order() # PROPERTY-OF-UNIT pairs: each came after the one before
{
	local last=0 now
	while [ $# -gt 0 ]; do
		now=$(systemctl show -P "$2" "$1")
		printf '%s %s %s\n' "$1" "$2" "$now"
		[ "${now:-0}" -gt "$last" ] || return 1
		last=$now
		shift 2
	done
}

first_agent_refused()
{
	cat /run/vm-first
	tail -n 1 /run/vm-stub
	grep -q '"ok": 0,' /run/vm-first && ! grep -q '"failed": 0' /run/vm-first && [ "$(unsteered)" = 0 ]
}

booted()
{
	check 'the machine has come up, with no unit that failed' up
	check 'the early unit pinned before agents.slice was there, and that before the first agent' in_order \
		vm-stub.service ExecMainStartTimestampMonotonic $early ExecMainExitTimestampMonotonic \
		agents.slice ActiveEnterTimestampMonotonic vm-first.service ExecMainStartTimestampMonotonic \
		$daemon ExecMainStartTimestampMonotonic
	check 'the first agent was refused, and nothing of it came to the target' first_agent_refused
	check 'the daemon has told that it is ready' is $daemon SubState running
	check 'systemd knows its version and policy' status_text
	check 'it is in no slice of agents' grep -q 'system.slice/tidegated.service' "/proc/$(pid)/cgroup"
	check 'who is no agent reaches the target' outsider
	check 'an agent is steered, and asks' works
}
server() { psql -q -U postgres -c 'CREATE ROLE agent LOGIN' -c 'CREATE DATABASE shop OWNER agent'; }
up() { local s; s=$(systemctl is-system-running --wait); [ "$s" = running ] || { systemctl --failed; journalctl -b -p warning -n 30; return 1; }; }
status_text() { show $daemon StatusText | grep -E '^[0-9.]+, policy [0-9a-f]{16}$'; }
outsider() { [ "$(psql -X -At -h 127.0.0.1 -U agent -d shop -c 'SELECT 7')" = 7 ]; }

valid()
{
	systemd-analyze verify --man=no $early $daemon agents.slice vm-agent.service
	# A wrong key is a warning and no failure.
	! systemd-analyze verify --man=no $early $daemon agents.slice vm-agent.service 2>&1 | grep -E 'tidegate|agents|vm-agent'
}
exposure() # UNIT LIMIT
{
	systemd-analyze security --no-pager "$1" | tail -n 1 >&3
	systemd-analyze security --no-pager --threshold="$2" "$1"
}

stopped()
{
	before_unsteered=$(unsteered)
	check 'the daemon stops' systemctl stop $daemon
	check 'without a daemon the agent is refused' refused
	check 'systemd keeps no descriptor of a daemon that was stopped' is $daemon NFileDescriptorStore 0
	check 'who is no agent still reaches the target' outsider
	check 'the daemon starts' systemctl start $daemon
	check 'the agent is steered again' works
	check 'nothing came to the target past the gate' none_unsteered
}

reloaded()
{
	local before
	before=$(pid)
	sed -i 's/read, transaction/transaction/' $config
	check 'systemctl reload' systemctl reload $daemon
	check 'the new policy is in force' within 20 complains 'SELECT 40 + 2' 'tidegate\|denied\|not allowed'
	sed -i 's/transaction, session/read, transaction, sess ion/' $config
	check 'a reload with a mistake in the file fails' eval "! systemctl reload $daemon"
	check 'and says where it is' eval "journalctl -b -u $daemon | grep -E 'tidegate.yaml:[0-9]+:[0-9]+'"
	check 'the daemon goes on, with the policy from before' complains 'SELECT 40 + 2' 'tidegate\|denied\|not allowed'
	sed -i 's/read, transaction, sess ion/read, transaction, session/' $config
	check 'systemctl reload of the mended file' systemctl reload $daemon
	check 'the agent may ask again' within 20 works
	check 'it is the same process' [ "$(pid)" = "$before" ]
}

restarted()
{
	local before cookies
	before=$(pid) cookies=$(listener)
	check 'systemd keeps the listeners' eval "[ \"$(show $daemon NFileDescriptorStore)\" -ge 6 ]"
	load_start
	check 'systemctl restart, under load' systemctl restart $daemon
	check 'the load goes on' load_end 5
	check 'it is another process' eval "[ $(pid) != $before ]"
	check 'no connection was lost' lost_at_most 0
	check 'nothing came to the target past the gate' none_unsteered
	check 'the listeners are the same ones' eval "[ '$(listener)' = '$cookies' ]"
	check 'the agent is steered' works
}

# The connection waits in the queue of a socket that nobody but systemd holds.
waiting()
{
	before_unsteered=$(unsteered)
	rm -f /run/vm-go /run/vm-answer
	mkdir -p /run/systemd/system/$daemon.d
	printf '[Service]\nExecStartPre=/bin/sh -c "until [ -e /run/vm-go ]; do sleep 0.2; done"\n' \
		>/run/systemd/system/$daemon.d/wait.conf
	systemctl daemon-reload
	systemctl restart --no-block $daemon
	within 120 is $daemon SubState start-pre || return 1
	printf 'SELECT 40 + 2\n' >/run/vm-query
	systemctl start --no-block vm-agent.service
	within 60 is vm-agent.service SubState start || return 1
	sleep 2
	is $daemon SubState start-pre && is vm-agent.service SubState start && [ ! -s /run/vm-answer ]
	local r=$?
	rm -r /run/systemd/system/$daemon.d
	systemctl daemon-reload
	touch /run/vm-go
	within 300 is vm-agent.service SubState dead
	[ $r -eq 0 ] && [ "$(cat /run/vm-answer)" = 42 ]
}

killed()
{
	local before
	before=$(pid)
	load_start
	check 'kill -9' kill -9 "$before"
	check 'systemd starts it again' within 300 eval "[ \$(systemctl show -P MainPID $daemon) != $before ] && is $daemon SubState running"
	check 'the load goes on' load_end 5
	check 'only what was running was lost' lost_at_most 3
	check 'nothing came to the target past the gate' none_unsteered
	check 'it counts as one restart' is $daemon NRestarts 1
	check 'the agent is steered' works
}

upgraded()
{
	local before
	before=$(pid)
	load_start
	check 'tidegate daemon upgrade' tidegate daemon upgrade
	check 'the load goes on' load_end 5
	check 'no connection was lost' lost_at_most 0
	check 'nothing came to the target past the gate' none_unsteered
	check 'systemd has the same process' [ "$(pid)" = "$before" ]
	check 'and takes it for running' is $daemon SubState running
	check 'the agent is steered' works
	check 'a restart after an upgrade' systemctl restart $daemon
	check 'the agent is steered' works
}

without_pins()
{
	mv $config $config.away
	systemctl stop $daemon $early agents.slice
	check 'without a configuration the early unit fails' eval "! systemctl start $early"
	check 'and no agent starts' eval "! systemctl start vm-agent.service"
	mv $config.away $config
	check 'with it, agents start, refused' refused
	check 'the early unit is up' is $early SubState exited
	check 'the daemon starts' systemctl start $daemon
	check 'the agent is steered' works
}

case $(cat /var/lib/vm-stage 2>/dev/null) in
'')
	check 'there is a server' within 300 server
	booted
	exec 3>/dev/ttyS1
	check 'systemd-analyze verify has nothing to say' valid
	check 'systemd-analyze security of the daemon' exposure $daemon 50
	check 'systemd-analyze security of the early unit' exposure $early 60
	check 'systemd-analyze security of an agent' exposure vm-agent.service 55
	check 'what policy denies is denied' complains 'CREATE TABLE t (a int)' 'tidegate\|denied\|not allowed'
	stopped
	reloaded
	restarted
	check 'a connection waits while no daemon runs' waiting
	killed
	upgraded
	without_pins
	check 'recordings are whole' tidegate recording verify
	tidegate target set shop block --reason 'over the reboot'
	echo rebooted >/var/lib/vm-stage
	sync
	systemctl reboot
	;;
rebooted)
	check 'the daemon is up' within 300 is $daemon SubState running
	check 'a toggle outlives the reboot' eval 'tidegate target list | grep -q block'
	tidegate target reset shop
	booted
	check 'what was refused before the daemon was up is in the audit log' eval 'tidegate audit | grep -i down'
	check 'recordings of before the reboot are whole' tidegate recording verify
	printf 'vm: all done\n'
	sync
	systemctl poweroff
	;;
esac
