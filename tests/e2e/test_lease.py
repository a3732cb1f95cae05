# SPDX-License-Identifier: MIT
"""How access ends: its time, the process, the agent's token, the policy; and what may finish."""
import json
import os
import shutil
import socket
import subprocess
import time

import harness
import pytest
from harness import Raw, policy, reload_with, wait_for
from test_ending import finished, records
from test_token import BOT, Issuer, config, entry, token_at, write

HERE = os.path.dirname(os.path.abspath(__file__))
PY = "/usr/bin/python3"
PREAMBLE = (f"import sys, time, os, socket, array, signal; sys.path.insert(0, {HERE!r})\n"
            "import harness\nfrom harness import Raw, message\n")


def ended_by(d, reason, n=1):
    """The reason stands in all recordings, and is counted."""
    for path in finished(d, n):
        assert [r["data"]["reason"] for r in records(path, "end")] == [reason]
    assert d.counters()[reason] >= n


def agent(d, script, *args):
    """A Python script as the agent, which talks with us by lines."""
    return d.popen([PY, "-c", PREAMBLE + script, *map(str, args)], stdin=subprocess.PIPE, bufsize=1)


def say(p, text):
    p.stdin.write(text + "\n")
    p.stdin.flush()


# The limits are those of a machine that does nothing else.
BUSY = max(1, os.getloadavg()[0]) * harness.SLOW


def within(seconds, since):
    took = time.monotonic() - since
    assert took < seconds * BUSY, took


# --------------------------------------------------------------- the process

HANDS_ON = """
r = Raw(int(sys.argv[1]))
if os.fork() == 0:
    print("child", flush=True)
    data = b""
    r.s.settimeout(20)
    try:
        while part := r.s.recv(65536):
            data += part
    except OSError as e:
        data += str(e).encode()
    print("closed", data, flush=True)
    os._exit(0)
sys.stdin.readline()
os._exit(0)
"""


ONE_BY_ONE = """
for i in range(2):
    r = Raw(int(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.readline()
    r.s.close()
if len(sys.argv) == 3:
    os.execv(sys.argv[2], [sys.argv[2], "-c", sys.orig_argv[2], sys.argv[1]])
"""


def test_a_process_is_looked_at_for_each_connection(daemon, pg):
    """It is watched on between its connections; what it executes and where it is moved meanwhile is seen."""
    d = daemon(policy(pg.port), workers=1)
    other = f"{d.dir}/other"
    shutil.copy(os.path.realpath(PY), other)
    p = agent(d, ONE_BY_ONE, pg.port, other)
    seen = {}
    for i in range(4):
        assert p.stdout.readline() == "open\n"
        seen.update(wait_for("one session", lambda: {s["id"]: s for s in d.ctl("session.list")}
                             if len(d.ctl("session.list")) == 1 else None))
        assert len(seen) == i + 1
        if i == 2:
            os.mkdir(f"{d.cgroup}/below")
            with open(f"{d.cgroup}/below/cgroup.procs", "w") as f:
                f.write(str(p.pid))
        say(p, "go on")
    assert p.wait() == 0
    seen = list(seen.values())
    assert len({(s["pid"], s["started_boot_ns"]) for s in seen}) == 1, seen
    assert [s["exe"] for s in seen] == [os.path.realpath(PY)] * 2 + [other] * 2
    assert [s["cgroup"] for s in seen] == [d.cgroup_name] * 3 + [d.cgroup_name + "/below"]
    os.rmdir(f"{d.cgroup}/below")


def test_process_ends_while_a_child_has_its_socket(daemon, pg):
    d = daemon(policy(pg.port), workers=1)
    p = agent(d, HANDS_ON, pg.port)
    assert p.stdout.readline() == "child\n"
    wait_for("the session", lambda: d.ctl("session.list"))
    start = time.monotonic()
    say(p, "end")
    out = p.stdout.readline()
    within(0.3, start)  # with the end of a Python process
    assert "FATAL" in out and "its socket lives on elsewhere" in out, out
    assert "process_gone: keep" in out, out
    ended_by(d, "process_gone")


def test_process_ends_and_the_socket_was_passed_on(daemon, pg, tmp_path):
    """Over AF_UNIX, to somebody who is no agent."""
    d = daemon(policy(pg.port), workers=1)
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o777)
    os.chmod(tmp_path, 0o755)
    listener.listen()
    p = agent(d, "r = Raw(int(sys.argv[1]))\nu = socket.socket(socket.AF_UNIX)\n"
                 "sys.stdin.readline()\n"
                 "u.connect(sys.argv[2])\n"
                 "u.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, "
                 "array.array('i', [r.s.fileno()]))])\nsys.stdin.readline()\n", pg.port, path)
    say(p, "pass it")
    conn, _ = listener.accept()
    _, fds, _, _ = socket.recv_fds(conn, 16, 1)
    taken = socket.socket(fileno=fds[0])
    wait_for("the state", lambda: d.ctl("session.list")[0]["state"] == "run")
    start = time.monotonic()
    say(p, "end")
    taken.settimeout(10 * harness.SLOW)
    got = taken.recv(65536)
    within(0.3, start)
    assert b"that opened the connection has ended" in got, got
    p.wait(10)
    ended_by(d, "process_gone")


HALF = """
r = Raw(int(sys.argv[1]))
r.query("SELECT repeat('x', 9000), pg_sleep(0.1) FROM generate_series(1, 300)")
r.next()
r.s.shutdown(socket.SHUT_WR)
if os.fork() == 0:
    print("child", flush=True)
    n, start = 0, time.monotonic()
    try:
        while part := r.s.recv(65536):
            n += len(part)
    except OSError:
        pass
    print("closed", n > 9000, n < 1000000, flush=True)
    os._exit(0)
sys.stdin.readline()
os._exit(0)
"""


def test_process_ends_and_had_said_that_it_will_say_no_more(daemon, pg):
    """Half-closed: what looks like an ordinary end is still read from by another."""
    d = daemon(policy(pg.port), workers=1)
    p = agent(d, HALF, pg.port)
    assert p.stdout.readline() == "child\n"
    start = time.monotonic()
    say(p, "end")
    assert p.stdout.readline() == "closed True True\n"
    assert 4 < time.monotonic() - start < 8 * BUSY
    p.communicate()
    ended_by(d, "process_gone")


def test_process_gone_is_let_be_where_the_agent_says_so(daemon, pg):
    text = policy(pg.port).replace("cgroup: $CGROUP", "cgroup: $CGROUP, process_gone: keep")
    d = daemon(text, workers=1)
    p = agent(d, "r = Raw(int(sys.argv[1]))\n"
                 "if os.fork() == 0:\n"
                 "    time.sleep(0.7)\n    r.query('SELECT 5')\n"
                 "    print(b''.join(b for k, b in r.until(b'Z') if k == b'D'), flush=True)\n"
                 "    os._exit(0)\nos._exit(0)\n", pg.port)
    assert "5" in p.communicate(timeout=15 * harness.SLOW)[0]
    ended_by(d, "client_closed")


def test_ordinary_ends_are_the_clients(daemon, pg):
    """A process that ends closes its socket: no other reason, and its last words arrive."""
    d = daemon(policy(pg.port), workers=1)
    script = ("r = Raw(int(sys.argv[1]))\n"
              "r.query('INSERT INTO notes (body) VALUES (' + chr(39) + 'last words' + chr(39) + ')')\n"
              "os._exit(0)\n")
    for _ in range(5):
        agent(d, script, pg.port).communicate(timeout=15 * harness.SLOW)
    for path in finished(d, 5):
        reason, = [r["data"]["reason"] for r in records(path, "end")]
        assert reason in ("client_closed", "upstream_closed")
    assert d.counters().get("process_gone", 0) == 0
    assert wait_for("the rows", lambda: pg.sql(
        "SELECT count(*) FROM notes WHERE body = 'last words'", db="shop").strip() == "5")
    pg.sql("DELETE FROM notes WHERE body = 'last words'", db="shop")


def test_one_descriptor_for_a_process(daemon, pg):
    d = daemon(policy(pg.port), workers=1)
    wait_for("the key", lambda: d.ctl("status")["receipt_key"])
    before = len(os.listdir(f"/proc/{d.process.pid}/fd"))
    p = agent(d, "all = [Raw(int(sys.argv[1])) for _ in range(40)]\nprint('there', flush=True)\n"
                 "sys.stdin.readline()\n", pg.port)
    assert p.stdout.readline() == "there\n"
    assert wait_for("the sessions", lambda: len(d.ctl("session.list")) == 40)
    assert wait_for("the files", lambda: len(os.listdir(
        f"/proc/{d.process.pid}/fd")) <= before + 2)
    say(p, "end")
    p.wait(10)
    wait_for("the end", lambda: not d.ctl("session.list"))
    assert wait_for("the files", lambda: len(os.listdir(f"/proc/{d.process.pid}/fd")) <= before)


def test_process_ends_after_an_upgrade(daemon, pg):
    d = daemon(policy(pg.port), workers=1)
    p = agent(d, HANDS_ON, pg.port)
    assert p.stdout.readline() == "child\n"
    d.ctl("daemon.upgrade", timeout=60)
    say(p, "end")
    out = p.stdout.readline()
    assert "FATAL" in out and "its socket lives on elsewhere" in out, out


# --------------------------------------------------------------------- grace

GRACE = "{ approval: builtin, max: 2s, grace: 8s }"


def let_in(d, pg, script):
    p = agent(d, script, pg.port)
    d.ctl("approval.approve", id=d.approval()["id"])
    return p


def test_grace_lets_a_statement_finish(daemon, pg):
    d = daemon(policy(pg.port, access=GRACE), workers=1)
    p = let_in(d, pg, "r = Raw(int(sys.argv[1]))\nr.query('SELECT pg_sleep(3.5), 77')\n"
                      "print(r.until(b'Z'), r.rest(), flush=True)\n")
    wait_for("the end of the grant", lambda: d.ctl("grant.list") == [], 15)
    assert wait_for("the state", lambda: d.ctl("session.list")[0]["state"] == "ending")
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "77" in out and "SELECT 1" in out, out
    assert "what runs may finish within 8 s" in out, out
    assert out.index("SELECT 1") < out.index("57P01"), out
    ended_by(d, "grant_expired")


BOUND = """
r = Raw(int(sys.argv[1]))
r.query("BEGIN")
r.until(b"Z")
BIND = b"\\0\\0\\0" * 2
for n in b"a", b"b", b"c":
    r.send(message(b"P", n + b"\\0INSERT INTO notes (body) VALUES ('bound') RETURNING 'went' || 'through'\\0\\0\\0"),
           message(b"B", n + b"\\0" + n + b"\\0" + BIND))
r.send(message(b"S"))
print(r.until(b"Z"), flush=True)
sys.stdin.readline()
for part in (message(b"E", b"a\\0\\0\\0\\0\\0"), message(b"S")), (message(b"Q", b"FETCH ALL FROM b\\0"),), \
        (message(b"P", b"\\0FETCH ALL FROM c\\0\\0\\0"), message(b"B", b"\\0\\0" + BIND),
         message(b"E", b"\\0" * 5), message(b"S")):
    r.send(*part)
    print(r.until(b"Z"), flush=True)
r.query("ROLLBACK")
r.until(b"Z")
"""


@pytest.mark.parametrize("how", ["grace", "reload", "asked"])
def test_what_was_bound_before_is_judged_when_it_runs(daemon, pg, how):
    """Any number of portals can be made in time: they are statements that have not begun."""
    d = daemon(policy(pg.port, access=GRACE if how == "grace" else "none"), workers=1)
    p = let_in(d, pg, BOUND) if how == "grace" else agent(d, BOUND, pg.port)
    assert "ERROR" not in p.stdout.readline()
    if how == "grace":
        time.sleep(2.5)
    else:
        reload_with(d, "{ effect: any, do: allow }", "{ effect: write, do: %s }\n      - { effect: any, do: allow }"
                    % ("deny" if how == "reload" else "approve"))
        time.sleep(0.5)
    say(p, "go on")
    asked = []
    for _ in range(3):
        if how == "asked":
            a, = wait_for("the question", lambda: [x for x in d.ctl("approval.list") if x["id"] not in asked])
            assert "INSERT INTO notes" in a["text"] and "-- parameters: not known" in a["text"], a
            asked.append(a["id"])
            d.ctl("approval.deny", id=a["id"])
        line = p.stdout.readline()
        assert "42501" in line and "wentthrough" not in line, line
    p.communicate(timeout=20 * harness.SLOW)


def test_without_grace_nothing_finishes(daemon, pg):
    d = daemon(policy(pg.port, access="{ approval: builtin, max: 1s }"), workers=1)
    p = let_in(d, pg, "r = Raw(int(sys.argv[1]))\nr.query(\"SELECT pg_sleep(5), repeat('xy', 3)\")\n"
                      "print(r.rest(), flush=True)\n")
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "xyxyxy" not in out and "57P01" in out, out
    ended_by(d, "grant_expired")


def test_an_idle_session_ends_at_once_in_spite_of_grace(daemon, pg):
    d = daemon(policy(pg.port, access=GRACE), workers=1)
    p = let_in(d, pg, "r = Raw(int(sys.argv[1]))\nt = time.monotonic()\nr.rest()\n"
                      "print(time.monotonic() - t, flush=True)\n")
    assert float(p.communicate(timeout=20 * harness.SLOW)[0]) < 2 + 0.3 * BUSY
    ended_by(d, "grant_expired")


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK", "END"])
def test_grace_lets_a_transaction_end_and_nothing_more(daemon, pg, how):
    d = daemon(policy(pg.port, access=GRACE), workers=1)
    p = let_in(d, pg, f"""
r = Raw(int(sys.argv[1]))
for sql in ("BEGIN", "CREATE TABLE grace_{how.lower()} (a int)"):
    r.query(sql)
    r.until(b"Z")
time.sleep(2.5)
r.query("INSERT INTO grace_{how.lower()} VALUES (1)")
print("refused", r.until(b"Z"), flush=True)
r.query("{how}; SELECT repeat('xy', 3)")
print("both", r.until(b"Z"), flush=True)
r.query("{how}")
print("done", r.rest(), flush=True)
""")
    out = p.communicate(timeout=20 * harness.SLOW)[0].splitlines()
    refused, both, done = out
    assert "granted time is over" in refused and "42501" in refused, refused
    assert "(b'Z', b'T')" in refused, refused  # the transaction is as it was
    assert "granted time is over" in both and "xyxyxy" not in both, both
    assert ("ROLLBACK" if how == "ROLLBACK" else "COMMIT") in done and "57P01" in done, done
    there = pg.sql(f"SELECT to_regclass('grace_{how.lower()}') IS NOT NULL", db="shop").strip()
    assert there == ("f" if how == "ROLLBACK" else "t")
    pg.sql(f"DROP TABLE IF EXISTS grace_{how.lower()}", db="shop")
    ended_by(d, "grant_expired")


def test_what_was_prepared_is_refused_in_the_grace(daemon, pg):
    d = daemon(policy(pg.port, access=GRACE), workers=1)
    p = let_in(d, pg, """
r = Raw(int(sys.argv[1]))
r.send(message(b'P', b's\\0SELECT 8 || $$eight$$\\0\\0\\0'), message(b'S'))
r.until(b'Z')
r.query("BEGIN")
r.until(b'Z')
run = message(b'B', b'\\0s\\0' + b'\\0' * 6) + message(b'E', b'\\0' * 5) + message(b'S')
r.send(run)
print("before", r.until(b'Z'), flush=True)
time.sleep(2.5)
r.send(run)
print("after", r.until(b'Z'), flush=True)
r.query("COMMIT")
print("done", r.rest(), flush=True)
""")
    before, after, done = p.communicate(timeout=20 * harness.SLOW)[0].splitlines()
    assert "8eight" in before and "8eight" not in after and "granted time is over" in after, (before, after)
    assert "COMMIT" in done and "57P01" in done, done
    ended_by(d, "grant_expired")


def test_grace_has_an_end(daemon, pg):
    d = daemon(policy(pg.port, access="{ approval: builtin, max: 1s, grace: 1s }"), workers=1)
    p = let_in(d, pg, "t = time.monotonic()\nr = Raw(int(sys.argv[1]))\nr.query('BEGIN')\n"
                      "r.until(b'Z')\nt = time.monotonic()\nprint(r.rest(), time.monotonic() - t)\n")
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "57P01" in out and 1 < float(out.split()[-1]) < 2 + 0.6 * BUSY, out
    ended_by(d, "grant_expired")


def test_a_held_statement_is_refused_in_the_grace(daemon, pg):
    d = daemon(policy(pg.port, access=GRACE, commands=[
        "{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]), workers=1)
    p = let_in(d, pg, "r = Raw(int(sys.argv[1]))\nr.query('BEGIN')\nr.until(b'Z')\n"
                      "r.query('CREATE TABLE grace_held (a int)')\nprint(r.until(b'Z'), flush=True)\n"
                      "r.query('COMMIT')\nprint(r.rest(), flush=True)\n")
    a = wait_for("the question", lambda: [x for x in d.ctl("approval.list")
                                          if x["kind"] == "statement"])
    held, done = p.communicate(timeout=20 * harness.SLOW)[0].splitlines()
    assert "waiting for approval " + a[0]["id"] in held and "granted time is over" in held, held
    assert "COMMIT" in done and "57P01" in done, done
    assert d.ctl("approval.list") == []


def test_a_revoked_grant_has_no_grace(daemon, pg):
    d = daemon(policy(pg.port, access="{ approval: builtin, max: 1m, grace: 1m }"), workers=1)
    p = let_in(d, pg, "r = Raw(int(sys.argv[1]))\nr.query('BEGIN')\nr.until(b'Z')\n"
                      "print('in', flush=True)\nprint(r.rest(), flush=True)\n")
    assert p.stdout.readline() == "in\n"
    start = time.monotonic()
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    assert "57P01" in p.stdout.readline()
    within(0.1, start)
    ended_by(d, "grant_revoked")


# ----------------------------------------------------------- the agent's token

WAITS = ("r = Raw(int(sys.argv[1]))\nprint('in', flush=True)\nt = time.monotonic()\n"
         "print(r.rest(), time.monotonic() - t, flush=True)\n")


@pytest.fixture(scope="module")
def issuer():
    it = Issuer()
    yield it
    it.server.shutdown()


def with_token(daemon, pg, issuer, tmp_path, ttl, when=BOT, **claims):
    os.chmod(tmp_path, 0o755)
    path = str(tmp_path / "token")
    head = ("idp:\n  issuer: https://login.example\n  clock_skew: 0s\n"
            "  client: { id: x, auth: client_secret_basic, secret_file: $DIR/secret }\n")
    d = daemon(config(pg, token_at(issuer, f"file: {path}"), entry(when=when), head=head), workers=1)
    write(path, issuer.token(ttl=ttl, **claims))
    return d, path


def test_session_ends_with_the_agents_token(daemon, pg, issuer, tmp_path):
    d, _ = with_token(daemon, pg, issuer, tmp_path, 6)
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "token has ended" in out and "57P01" in out and "renewed in time" in out, out
    assert "still the same" in out, out
    assert float(out.split()[-1]) < 6 + 0.4 * BUSY
    ended_by(d, "token_expired")


def test_a_newer_token_goes_on(daemon, pg, issuer, tmp_path):
    d, path = with_token(daemon, pg, issuer, tmp_path, 6)
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    old = d.ctl("session.list")[0]["token"]["sha256"]
    write(path, issuer.token(ttl=9))
    token = wait_for("the newer one", lambda: [s["token"] for s in d.ctl("session.list")
                                               if s["token"]["sha256"] != old])[0]
    assert token["refused"] is None and token["claims"]["sub"] == "spiffe://example.org/agent/bot"
    assert p.poll() is None
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "token has ended" in out, out
    ended_by(d, "token_expired")
    # Both are on record: whose they were, which, from whom, and until when.
    recording, = finished(d)
    renewed, = [r["data"] for r in records(recording, "state") if r["data"]["what"] == "token"]
    del token["refused"]
    assert renewed == {"what": "token", "token": token}, renewed
    assert token["claims"]["iss"] == issuer.url and token["claims"]["exp"] > time.time() - 60
    facts = json.loads(records(recording, "header")[0]["data"]["facts"])
    assert facts["token"]["sha256"] == old != token["sha256"], facts
    assert facts["token"]["claims"]["exp"] < token["claims"]["exp"]


def test_a_token_of_another_subject_is_no_newer_one(daemon, pg, issuer, tmp_path):
    d, path = with_token(daemon, pg, issuer, tmp_path, 6)
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    write(path, issuer.token(ttl=60, sub="spiffe://example.org/agent/other"))
    out = p.communicate(timeout=20 * harness.SLOW)[0]
    assert "token has ended" in out and "another's" in out, out
    ended_by(d, "token_expired")


def test_a_token_that_nobody_looks_at_ends_nothing(daemon, pg, issuer, tmp_path):
    d, _ = with_token(daemon, pg, issuer, tmp_path, 1, when=None)
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(2.5)
    d.ctl("session.kill", id=d.ctl("session.list")[0]["id"])
    p.communicate(timeout=10 * harness.SLOW)


# ------------------------------------------------------------------ the policy

RELOADS = {
    "entry": ("agents: [bot]", "agents: [nobody]"),
    "asks": ("access: { approval: none }", "access: { approval: builtin }"),
}


@pytest.mark.parametrize("what", ["entry", "asks"])
def test_policy_that_no_longer_allows_ends_it_at_once(daemon, pg, what):
    text = policy(pg.port) + "  - agents: [nobody]\n    targets: [shop]\n    access: { approval: none }\n"
    text = text.replace("agents:\n  bot", "agents:\n  nobody: { uid: [4242] }\n  bot", 1)
    d = daemon(text, workers=2)
    waiting = [agent(d, WAITS, pg.port) for _ in range(3)]
    for p in waiting:
        assert p.stdout.readline() == "in\n"
    start = time.monotonic()
    reload_with(d, *RELOADS[what])
    for p in waiting:
        assert "no longer allows" in p.stdout.readline()
    within(0.25, start)  # with reading and checking the file
    ended_by(d, "policy_changed", 3)


def test_who_was_approved_by_others_than_are_asked_now_may_ask_again(daemon, pg):
    d = daemon(policy(pg.port, access="builtin") + "approvals:\n"
               "  pdp: { by: authzen, url: 'http://127.0.0.1:9/x' }\n", workers=1)
    p = let_in(d, pg, WAITS)
    assert p.stdout.readline() == "in\n"
    reload_with(d, "{ effect: any, do: allow }", "{ effect: [read, write], do: allow }")
    wait_for("the state", lambda: d.ctl("session.list")[0]["state"] == "run")
    assert p.poll() is None
    start = time.monotonic()
    reload_with(d, "access: { approval: builtin }", "access: { approval: pdp }")
    assert "no longer allows" in p.stdout.readline()
    within(0.2, start)
    ended_by(d, "policy_changed")
