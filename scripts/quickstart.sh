#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Shows Tidegate at work on this host: a throw-away PostgreSQL, the daemon with its
# built-in approver, an agent's cgroup, and the stock psql in it that connects to the
# database's real address. Cleans up after itself.
#
#   scripts/quickstart.sh [--keep] [--no-bpf] [--no-install]
#
#   --keep        leaves everything running and says what to try next
#   --no-bpf      shows gateway mode, as on a host that permits no BPF
#   --no-install  installs and builds nothing
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
	echo "quickstart: needs root (it loads BPF programs): going through sudo"
	exec sudo -- "$0" "$@"
fi

keep=no bpf=auto install=yes
for arg in "$@"; do
	case $arg in
	--keep) keep=yes ;;
	--no-bpf) bpf=off ;;
	--no-install) install=no ;;
	*)
		sed -n '3,12s/^# \{0,1\}//p' "$0"
		exit 2
		;;
	esac
done

bold='' plain=''
if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); fi
started=$(date +%s)
dir='' pg_pid='' daemon_pid='' psql_pid='' cgroup='' made_users=''

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
show() { sed 's/^/   | /'; }
fail() {
	printf '\nquickstart: FAILED: %s\n' "$*" >&2
	[ -n "$dir" ] && [ -f "$dir/tidegated.log" ] && tail -20 "$dir/tidegated.log" | sed 's/^/  log: /' >&2
	exit 1
}
expect() { # expect TEXT PATTERN WHAT
	grep -qE -- "$2" <<<"$1" || fail "$3: expected /$2/ in: $1"
}

cleanup() {
	local status=$?
	trap - EXIT INT TERM
	if [ "$keep" = yes ] && [ $status -eq 0 ]; then return; fi
	# First who is connected: the daemon lets sessions end before it does.
	for pid in $psql_pid $([ -z "$cgroup" ] || cat "$cgroup/cgroup.procs" 2>/dev/null); do
		kill "$pid" 2>/dev/null || true
	done
	if [ -n "$daemon_pid" ] && kill "$daemon_pid" 2>/dev/null; then wait "$daemon_pid" 2>/dev/null || true; fi
	rm -rf "/sys/fs/bpf/tidegate-quickstart-$$"
	[ -n "$pg_pid" ] && as_postgres "$pgbin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1
	for _ in $(seq 50); do
		[ -n "$cgroup" ] && [ -d "$cgroup" ] && ! rmdir "$cgroup" 2>/dev/null || break
		sleep 0.1
	done
	for u in $made_users; do userdel "$u" 2>/dev/null || true; done
	[ -n "$dir" ] && rm -rf "$dir"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ------------------------------------------------------------- what is needed
if [ "$install" = yes ]; then
	step "Installing what is missing and building"
	scripts/setup.sh --demo
	make -j"$(nproc)" >/dev/null
	say "built"
fi
build=${O:-build}
[ -x "$build/tidegated" ] || fail "there is no $build/tidegated: run make"
started=$(date +%s)

pgbin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$pgbin" ] || fail "no PostgreSQL server under /usr/lib/postgresql"
dir=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-quickstart.XXXXXX")
chmod 755 "$dir"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

for u in tidegate tidegate-keyd tidegate-authd tidegate-named; do
	if ! getent passwd "$u" >/dev/null; then
		useradd --system --no-create-home --shell /usr/sbin/nologin "$u"
		made_users="$made_users $u"
	fi
done

step "A throw-away PostgreSQL with a small customer table"
port=$(free_port)
install -d -o postgres -g postgres "$dir/data"
as_postgres "$pgbin/initdb" -D "$dir/data" -A trust -U postgres --no-sync >/dev/null
as_postgres "$pgbin/pg_ctl" -D "$dir/data" -w -l "$dir/data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir/data -c fsync=off" start >/dev/null
pg_pid=$(head -1 "$dir/data/postmaster.pid")
direct() { psql -X -q -h 127.0.0.1 -p "$port" -U postgres "$@"; }
direct -c "CREATE DATABASE shop" -c "CREATE ROLE agent LOGIN" -c "CREATE ROLE tidegate_catalog LOGIN"
direct -d shop <<'SQL'
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text, card text);
INSERT INTO customers VALUES
 (1, 'Ada Lovelace',  'ada@example.com',  '123-45-6789', '4111 1111 1111 1111'),
 (2, 'Alan Turing',   'alan@example.org', '987-65-4321', '5500-0000-0000-0004'),
 (3, 'Grace Hopper',  'grace@example.net','219-09-9999', '340000000000009');
GRANT SELECT, INSERT, UPDATE ON customers TO agent;
ALTER TABLE customers OWNER TO agent;
SQL
say "listening on 127.0.0.1:$port"

# --------------------------------------------------------------------- daemon
step "tidegated with the built-in approver"
root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
if [ "$bpf" = auto ] && [ -z "$root" ]; then
	say "no cgroup v2 is mounted on this host: gateway mode"
	bpf=off
fi
gate=$(free_port)
touch "$dir/catalog.password"
chmod 600 "$dir/catalog.password"
echo unused >"$dir/catalog.password"
cat >"$dir/tidegate.yaml" <<YAML
daemon:
  run_dir: $dir/run
  state_dir: $dir/state
  bpf_dir: /sys/fs/bpf/tidegate-quickstart-$$
  bpf: $bpf
  workers: 1
recording:
  dir: $dir/recordings
  journal: 16MiB
agents:
  demo:
    cgroup: /tidegate-demo-$$
targets:
  shop-db:
    address: "127.0.0.1:$port"
    protocol: postgresql
    listen: "127.0.0.1:$gate"       # gateway mode: the agent is known by its socket's owner
    listen_by_owner: true
    catalog: { user: tidegate_catalog, password_file: $dir/catalog.password }
policy:
  - agents: [demo]
    targets: [shop-db]
    access: { approval: builtin, max: 10m }
    commands:
      - { effect: [read, transaction, session], do: allow }
      - { effect: write, object: customers, do: allow }
      - { effect: ddl, text: '(?i)^\s*alter\s', do: approve }
      - { effect: any, do: deny }
    mask:
      - { column: customers.ssn, as: last4 }
      - { detect: [card, email], as: redact }
YAML
tg() { "$build/tidegate" -c "$dir/tidegate.yaml" "$@"; }
if [ -n "$root" ]; then
	cgroup=$root/tidegate-demo-$$
	mkdir -p "$cgroup"
fi
# With --keep it outlives this script, and must not hold on to what reads its output.
"$build/tidegated" -c "$dir/tidegate.yaml" >"$dir/tidegated.log" 2>&1 &
daemon_pid=$!
for _ in $(seq 100); do
	grep -q ' is ready' "$dir/tidegated.log" && break
	kill -0 "$daemon_pid" 2>/dev/null || fail "tidegated did not start"
	sleep 0.1
done
if grep -q 'steering on' "$dir/tidegated.log"; then
	dbport=$port
	say "the kernel steers what the cgroup ${cgroup##*/} sends to 127.0.0.1:$port"
else
	dbport=$gate
	why=$(sed -n 's/.*no kernel steering, gateway listeners only: //p' "$dir/tidegated.log")
	say "gateway mode: ${why:-as asked with --no-bpf}"
	say "psql is pointed at 127.0.0.1:$gate instead"
fi

# The agent: a process in the cgroup that runs the stock psql.
agent_psql() {
	(
		[ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/cgroup.procs"
		exec psql -X -h 127.0.0.1 -p "$dbport" -U agent -d shop "$@"
	)
}
next_approval() { # prints the id of the open approval
	for _ in $(seq 200); do
		id=$(tg -j approval list | python3 -c 'import json,sys; l=json.load(sys.stdin); print(l[0]["id"] if l else "")')
		[ -n "$id" ] && echo "$id" && return
		sleep 0.05
	done
	fail "no approval was asked for"
}

# ---------------------------------------------------------------------- scenes
step "1. The connection is held until somebody approves it"
say "\$ psql -h 127.0.0.1 -p $dbport -U agent -d shop -c 'SELECT id, name FROM customers'"
agent_psql -c 'SELECT id, name FROM customers' >"$dir/out1" 2>&1 &
psql_pid=$!
id=$(next_approval)
tg approval list | show
sleep 1
kill -0 "$psql_pid" || fail "psql did not wait"
say "psql waits. \$ tidegate approval approve $id"
tg approval approve "$id" >/dev/null
wait "$psql_pid" || fail "psql: $(cat "$dir/out1")"
psql_pid=''
show <"$dir/out1"
expect "$(cat "$dir/out1")" 'Ada Lovelace' "the read"

step "2. A read with masked columns, also under an alias and in an expression"
out=$(agent_psql -c "SELECT name, email, ssn, card, ssn AS harmless, 'x' || ssn AS hidden FROM customers ORDER BY id" 2>&1) || fail "$out"
show <<<"$out"
expect "$out" '6789' "last four digits of the ssn"
if grep -qE '123-45|987-65|4111|ada@' <<<"$out"; then fail "something was not masked"; fi

step "3. DDL is refused; the transaction and the session go on"
out=$(agent_psql -v ON_ERROR_STOP=0 2>&1 <<'SQL'
BEGIN;
UPDATE customers SET name = 'Ada King' WHERE id = 1;
DROP TABLE customers;
SELECT name FROM customers WHERE id = 1;
COMMIT;
SQL
)
show <<<"$out"
expect "$out" 'denied by policy' "the refusal"
expect "$out" 'Ada King' "the read after it"
expect "$out" 'COMMIT' "the commit after it"

step "4. A statement waits for approval and then runs, same connection, no retry"
agent_psql -c 'ALTER TABLE customers ADD COLUMN note text' >"$dir/out4" 2>&1 &
psql_pid=$!
id=$(next_approval)
tg approval list | show
say "\$ tidegate approval approve $id"
tg approval approve "$id" >/dev/null
wait "$psql_pid" || fail "psql: $(cat "$dir/out4")"
psql_pid=''
show <"$dir/out4"
expect "$(cat "$dir/out4")" 'ALTER TABLE' "the statement"

step "5. Access ends by itself"
tg -j grant list | python3 -c 'import json,sys; [print(g["id"]) for g in json.load(sys.stdin)]' |
	while read -r g; do tg grant revoke "$g" >/dev/null; done
agent_psql -c 'SELECT pg_sleep(30)' >"$dir/out5" 2>&1 &
psql_pid=$!
id=$(next_approval)
tg approval approve "$id" --for 2s >/dev/null
say "approved for two seconds; psql runs SELECT pg_sleep(30)"
wait "$psql_pid" && fail "the session outlived its grant"
psql_pid=''
show <"$dir/out5"
expect "$(cat "$dir/out5")" 'granted time is over' "the end"

step "6. What happened is on record"
sleep 0.2
tg recording list | show
rec=$(tg -j recording list | python3 -c 'import json,sys
for r in json.load(sys.stdin): print(r["id"])' | sed -n 3p)
say "\$ tidegate recording replay --no-delay $rec"
tg recording replay --no-delay "$rec" | show
tg recording verify "$rec" | show

took=$(($(date +%s) - started))
step "Done in $took s"
if [ "$keep" = yes ]; then
	cat <<TXT
   Everything still runs. Try, from this folder:
     export T="$PWD/$build/tidegate -c $dir/tidegate.yaml"
     \$T status
     \$T session list
     \$T policy explain demo shop-db 'DELETE FROM customers'
     sh -c 'echo \$\$ > $cgroup/cgroup.procs; psql -h 127.0.0.1 -p $dbport -U agent shop'   # and approve it elsewhere
   To end it:
     kill $daemon_pid; setpriv --reuid=postgres --regid=postgres --init-groups $pgbin/pg_ctl -D $dir/data -m fast stop
     rm -rf $dir /sys/fs/bpf/tidegate-quickstart-$$; rmdir $cgroup
TXT
	for u in $made_users; do printf '     userdel %s\n' "$u"; done
else
	say "cleaning up; \`scripts/quickstart.sh --keep\` leaves it running"
fi
