# SPDX-License-Identifier: MIT
"""An upgrade in place: the same process goes on as another binary, and nobody notices."""
import json
import os
import signal
import socket
import struct
import subprocess

from harness import BUILD, connect, policy, verify, wait_for


def upgrade(d):
    """By the command, as an operator does it."""
    done = subprocess.run([f"{BUILD}/tidegate", "-j", "-s", f"{d.dir}/run/control.sock", "daemon",
                           "upgrade"], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


def follow(d):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(f"{d.dir}/run/control.sock")
    body = json.dumps({"v": 1, "op": "session.follow", "args": {}}).encode()
    s.sendall(struct.pack("<I", len(body)) + body)
    return s


def test_what_lives_on(daemon, pg):
    """An open transaction, a held statement, a held connection, a grant, and who follows."""
    d = daemon(policy(pg.port, access="builtin", commands=["{ effect: ddl, do: approve }",
                                                           "{ effect: any, do: allow }"]))
    pid, before = d.process.pid, d.children()
    events = follow(d)
    d.ctl("grant.create", agent="bot", target="shop", for_ms=600000, reason="test")
    tx = d.popen(["psql", "-X", "-At", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
                  "shop"], stdin=subprocess.PIPE)
    tx.stdin.write("BEGIN; INSERT INTO notes (body) VALUES ('over-the-upgrade');\n")
    tx.stdin.flush()
    held = d.psql_later(pg.port, "-c", "CREATE TABLE held_over_upgrade (a int)")
    a = d.approval()
    wait_for("the transaction", lambda: any(s["commands"] >= 2 for s in d.ctl("session.list")))
    sessions = {s["id"] for s in d.ctl("session.list")}
    d.ctl("target.set", name="shop", mode="observe", reason="to be seen afterwards", for_ms=600000)
    counted = d.counters()

    code, said = upgrade(d)
    assert code == 0 and said["pid"] == pid and said["sessions"] == 2, said
    after, status = d.children(), d.ctl("status")
    assert status["pid"] == pid and status["upgrades"] == 1 and [
        w for w in status["warnings"] if "BREAK-GLASS" not in w] == [], status
    assert after["keyd"] != before["keyd"]
    # The workers of before have the two sessions between them; the new ones accept.
    old = [w for w in status["workers"] if w["before"]]
    assert sum(w["sessions"] for w in old) == 2, status["workers"]
    assert {s["id"] for s in d.ctl("session.list")} == sessions
    assert all(d.counters()[k] >= n for k, n in counted.items())
    assert d.ctl("grant.list")[0]["sessions"] == 2
    t = d.ctl("target.list")[0]
    assert t["mode"] == "observe" and t["off"]["reason"] == "to be seen afterwards", t
    d.ctl("target.set", name="shop", mode="reset")

    assert d.psql(pg.port, "-At", "-c", "SELECT 40 + 2").strip() == "42"
    new = [w["id"] for w in d.ctl("status")["workers"] if not w["before"]]
    assert len(new) == 2
    assert d.approval()["id"] == a["id"]
    assert pg.sql("SELECT to_regclass('held_over_upgrade') IS NULL", db="shop").strip() == "t"
    d.ctl("approval.approve", id=a["id"])
    assert "CREATE TABLE" in held.communicate(timeout=20)[0]
    assert "over-the-upgrade" not in pg.sql("SELECT body FROM notes", db="shop")
    out = tx.communicate("COMMIT; SELECT 'same-session';\n", timeout=20)[0]
    assert "COMMIT" in out and "same-session" in out, out
    assert "over-the-upgrade" in pg.sql("SELECT body FROM notes", db="shop")
    seen = ""
    while "same-session" not in seen:  # of a worker of before
        seen += json.dumps(d.receive(events)["result"])
    assert "SELECT 40 + 2" in seen  # of a new one

    # Nothing is left of the binary before.
    wait_for("the old workers to end",
             lambda: not [w for w in d.ctl("status")["workers"] if w["before"]], 20)
    assert set(d.children().values()) == {w["pid"] for w in d.ctl("status")["workers"]} | {
        after["keyd"]} or wait_for("the old keyd to end", lambda: len(d.children()) == 3, 20)
    wait_for("the recordings", lambda: len(d.recordings()) == 3)
    wait_for("their ends", lambda: all(verify(d, r).returncode == 0 for r in d.recordings()), 10)
    # Nothing was verified while connections waited.
    assert "programs that the check has loaded are taken" in d.log()
    audit = open(f"{d.dir}/state/audit.jsonl").read()
    assert '"daemon.upgrade"' in audit and '"daemon.was_down"' not in audit
    assert d.ctl("status")["integrity"]["changes"] == 0, d.ctl("status")["integrity"]


def until(manager, text):
    while not manager.recv(4096).decode().startswith(text):
        pass
    return True


def test_gateway_by_signal(gateway, pg):
    """SIGUSR2; a session through a gateway listener, and the listener; the service manager knows."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind("\0tidegate-test-" + os.urandom(8).hex())
    manager.settimeout(20)
    d = gateway(workers=1, env={"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(),
                                "WATCHDOG_USEC": "60000000"})
    ready = f"READY=1\nMAINPID={d.process.pid}\n"
    assert until(manager, ready)
    c = connect(d)
    cur = c.cursor()
    cur.execute("SELECT 1")
    d.process.send_signal(signal.SIGUSR2)
    wait_for("the upgrade", lambda: d.ctl("status")["upgrades"] == 1, 30)
    cur.execute("SELECT 2")
    assert cur.fetchone() == (2,)
    other = connect(d).cursor()
    other.execute("SELECT 3")
    assert other.fetchone() == (3,)
    assert until(manager, ready) and until(manager, "WATCHDOG=1")
    d.process.send_signal(signal.SIGTERM)
    assert until(manager, "STOPPING=1")
