# SPDX-License-Identifier: MIT
"""What a reload does with settings of the daemon itself: in effect, or named until it is."""
import contextlib
import grp
import http.server
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import harness
import pytest
from harness import connect, wait_for, works

CTL = f"{harness.BUILD}/tidegate"


def edit(d, old, new):
    """Of the file alone."""
    with open(d.config_path) as f:
        text = f.read()
    assert old in text, text
    with open(d.config_path, "w") as f:
        f.write(text.replace(old, new))


def ctl(d, *args):
    done = subprocess.run([CTL, "-c", d.config_path, *args], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


def place(d, key):
    """FILE:LINE:COLUMN of a key's value, which is on one of the first two lines."""
    with open(d.config_path) as f:
        for n, line in enumerate(f, 1):
            at = line.find(f" {key}: ")
            if at >= 0:
                return f"{d.config_path}:{n}:{at + len(key) + 4}"
    raise AssertionError(key)


def workers(d):
    return [w for w in d.ctl("status")["workers"] if not w["before"]]


def owner(d, worker):
    with open(f"/proc/{worker['pid']}/status") as f:
        uid = int(re.search(r"^Uid:\t(\d+)", f.read(), re.M)[1])
    return pwd.getpwuid(uid).pw_name


def journals(d):
    return sorted(os.path.getsize(f"{d.dir}/state/{name}")
                  for name in os.listdir(f"{d.dir}/state") if name.startswith("journal-"))


@contextlib.contextmanager
def accounts(name):
    names = [name, f"{name}-keyd", f"{name}-authd", f"{name}-named"]
    try:
        for each in names:
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell",
                            "/usr/sbin/nologin", each], check=True)
        yield
    finally:
        for each in names:
            subprocess.run(["userdel", each], check=False)


def test_what_takes_a_restart_is_named_and_the_policy_is_in_force(gateway, pg):
    d = gateway(workers=1)
    assert d.ctl("status")["pending"] == []
    edit(d, f"state_dir: {d.dir}/state", f"state_dir: {d.dir}/other")
    edit(d, f"dir: {d.dir}/recordings", f"dir: {d.dir}/others")
    user = f"tg-{d.tag}"
    edit(d, "bpf: auto", f"user: {user}, bpf: off")
    edit(d, "effect: any, do: allow", "effect: [read, transaction], do: allow")
    lines = [f"recording.dir: {place(d, 'dir')}: {d.dir}/recordings -> {d.dir}/others takes a restart: ",
             f"daemon.state_dir: {place(d, 'state_dir')}: {d.dir}/state -> {d.dir}/other takes a restart: ",
             f"daemon.bpf: {place(d, 'bpf')}: auto -> off takes a restart: `systemctl restart tidegated`",
             f"daemon.user: {place(d, 'user')}: tidegate -> {user} takes an upgrade in place: "
             "`tidegate daemon upgrade`"]
    out = ctl(d, "daemon", "reload")
    assert out.startswith("reloaded; policy "), out
    assert all(f"not in effect: {line}" in out for line in lines), out
    assert harness.refused(connect(d, pg), "CREATE TABLE no (a int)")  # the policy is the new one
    pending = d.ctl("status")["pending"]
    assert {e["key"]: e["takes"] for e in pending} == {
        "daemon.user": "upgrade", "daemon.state_dir": "restart", "daemon.bpf": "restart",
        "recording.dir": "restart"}
    assert all(any(e["text"].startswith(line) for e in pending) for line in lines)
    status = ctl(d, "status")
    assert status.count("takes a restart") == 3 and "not yet     daemon.user: " in status
    assert all(f"not in effect: {line}" in d.log() for line in lines)
    audit = [json.loads(line) for line in open(f"{d.dir}/state/audit.jsonl")]
    assert len([e for e in audit if e["event"] == "policy.reload"][-1]["pending"]) == 4
    # What is used goes on to be what is running, also by who is started now.
    for name in ("worker 0", "keyd"):
        os.kill(d.children()[name], 9)
    wait_for("its death to be noticed", lambda: d.ctl("status")["workers"][0]["restarts"])
    wait_for("all workers", d.workers_up)
    wait_for("service", lambda: works(d, pg))
    assert owner(d, workers(d)[0]) == "tidegate"
    assert not os.path.exists(f"{d.dir}/other") and not os.path.exists(f"{d.dir}/others")
    assert d.ctl("status")["receipt_key"] and "cannot be signed" not in d.log()
    # An upgrade has the user, and not what takes a restart.
    with pytest.raises(harness.Refused, match=f"there is no user {user} "):
        d.ctl("daemon.upgrade", timeout=60)
    with accounts(user):
        ctl(d, "daemon", "upgrade")
        wait_for("the old worker to end", lambda: len(d.ctl("status")["workers"]) == 1)
        assert owner(d, workers(d)[0]) == user
        assert [e["takes"] for e in d.ctl("status")["pending"]] == ["restart"] * 3
        assert not os.path.exists(f"{d.dir}/other") and not os.path.exists(f"{d.dir}/others")
        restart(d)
        assert d.ctl("status")["pending"] == [] and owner(d, workers(d)[0]) == user
        d.stop_process()


def test_what_was_taken_back_is_not_pending(gateway, pg):
    d = gateway(workers=1)
    edit(d, f"state_dir: {d.dir}/state", f"state_dir: {d.dir}/other")
    d.process.send_signal(signal.SIGHUP)
    wait_for("the message", lambda: "not in effect: daemon.state_dir" in d.log())
    edit(d, f"state_dir: {d.dir}/other", f"state_dir: {d.dir}/state")
    assert d.ctl("policy.reload")["pending"] == [] == d.ctl("status")["pending"]
    # A restart takes what was pending.
    edit(d, f"state_dir: {d.dir}/state", f"state_dir: {d.dir}/other")
    assert len(d.ctl("policy.reload")["pending"]) == 1
    restart(d)
    assert d.ctl("status")["pending"] == [] and os.path.exists(f"{d.dir}/other/journal-0")


def test_workers_and_journals_are_replaced(gateway, pg):
    d = gateway(workers=1, journal="16MiB")
    cur = connect(d, pg).cursor()
    edit(d, "workers: 1", "workers: 3")
    edit(d, "journal: 16MiB", "journal: 4MiB")
    assert d.ctl("policy.reload")["pending"] == []
    wait_for("three", lambda: len(workers(d)) == 3 and all(w["pid"] for w in workers(d)))
    assert journals(d) == [4 << 20] * 3 + [16 << 20]
    cur.execute("SELECT 'lives on'")
    assert cur.fetchone() == ("lives on",)
    assert all(works(d, pg) for _ in range(10))
    assert [w["sessions"] for w in d.ctl("status")["workers"] if w["before"]] == [1]
    cur.connection.close()
    wait_for("the old one to end", lambda: len(d.ctl("status")["workers"]) == 3)
    assert journals(d) == [4 << 20] * 3
    edit(d, "workers: 3", "workers: 2")
    d.ctl("policy.reload")
    wait_for("two", lambda: len(d.ctl("status")["workers"]) == 2)
    wait_for("service", lambda: works(d, pg))
    # The same again replaces nobody; nor does a restart.
    pids = [w["pid"] for w in workers(d)]
    d.ctl("policy.reload")
    assert [w["pid"] for w in d.ctl("status")["workers"]] == pids
    restart(d)
    assert works(d, pg) and len(d.ctl("status")["workers"]) == 2 and journals(d) == [4 << 20] * 2


def test_another_size_of_journals_comes_with_a_restart(gateway, pg):
    d = gateway(workers=2, journal="16MiB")
    cur = connect(d, pg).cursor()
    cur.execute("SELECT 'in the journal'")
    d.kill()
    edit(d, "journal: 16MiB", "journal: 4MiB")
    d.start()
    wait_for("the ones of before to end", lambda: journals(d) == [4 << 20] * 2)
    assert works(d, pg) and len(d.ctl("status")["workers"]) == 2
    assert b"in the journal" in d.record_text()
    edit(d, "journal: 4MiB", "journal: 8MiB")
    restart(d)
    wait_for("the ones of before to end", lambda: journals(d) == [8 << 20] * 2)


def restart(d):
    d.process.terminate()
    d.process.wait(40 * harness.SLOW)
    d.start()


def test_without_room_for_journals_the_workers_of_before_go_on(gateway, pg):
    d = gateway(workers=1)
    d.process.terminate()
    d.process.wait(40 * harness.SLOW)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=26m,mode=750", "none", f"{d.dir}/state"], check=True)
    try:
        d.start()
        edit(d, "workers: 1", "workers: 3")
        edit(d, "journal: 16MiB", "journal: 4MiB")  # there is room for two
        pending = d.ctl("policy.reload")["pending"]
        assert [e["key"] for e in pending] == ["daemon.workers"]
        assert "there is no room for the journals of new workers" in pending[0]["text"]
        assert place(d, "workers") in pending[0]["text"]
        assert works(d, pg) and len(d.ctl("status")["workers"]) == 1 and journals(d) == [16 << 20]
        assert d.ctl("status")["pending"] == pending
        assert "the workers of before go on" in d.log()
        edit(d, "workers: 3", "workers: 2")
        assert d.ctl("policy.reload")["pending"] == []
        wait_for("the new ones", lambda: journals(d) == [4 << 20] * 2)
        assert works(d, pg)
        d.process.terminate()
        d.process.wait(40 * harness.SLOW)
    finally:
        d.kill()
        subprocess.run(["umount", "-l", f"{d.dir}/state"], check=True)


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return b"tidegate_connections_total" in answer.read()


def listens(port):
    try:
        return scrape(port)
    except OSError:
        return False


def test_metrics_move(gateway, pg):
    d = gateway(workers=1)
    first, second = harness.free_port(), harness.free_port()
    edit(d, "bpf: auto", f'metrics_listen: "127.0.0.1:{first}", bpf: auto')
    d.ctl("policy.reload")
    assert scrape(first)
    d.ctl("policy.reload")
    assert scrape(first)
    edit(d, f"127.0.0.1:{first}", f"127.0.0.1:{second}")
    d.ctl("policy.reload")
    assert scrape(second) and not listens(first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        edit(d, f"127.0.0.1:{second}", f"127.0.0.1:{port}")
        with pytest.raises(harness.Refused, match=f"metrics_listen: cannot listen on 127.0.0.1:{port}"):
            d.ctl("policy.reload")
    assert scrape(second)
    edit(d, f'metrics_listen: "127.0.0.1:{port}", ', "")
    d.ctl("policy.reload")
    assert not listens(second)
    edit(d, "bpf: auto", f'metrics_listen: "127.0.0.1:{first}", bpf: auto')
    d.ctl("policy.reload")
    assert scrape(first)
    ctl(d, "daemon", "upgrade")
    assert scrape(first)


def test_the_run_directory_moves(gateway, pg):
    d = gateway(workers=1)
    with socket.socket(socket.AF_UNIX) as before:
        before.connect(f"{d.dir}/run/control.sock")
        d.ctl("status")
        edit(d, f"run_dir: {d.dir}/run", f"run_dir: {d.dir}/moved")
        d.process.send_signal(signal.SIGHUP)
        wait_for("the new place", lambda: os.path.exists(f"{d.dir}/moved/control.sock"))
        assert json.loads(ctl(d, "-j", "status"))["pending"] == []
        assert os.listdir(f"{d.dir}/run") == []
        body = b'{"v":1,"op":"status","args":{}}'
        before.sendall(len(body).to_bytes(4, "little") + body)
        assert d.receive(before)["ok"]
    # Where nobody can listen, all stays as it is.
    with open(f"{d.dir}/file", "w"):
        edit(d, f"run_dir: {d.dir}/moved", f"run_dir: {d.dir}/file")
    d.process.send_signal(signal.SIGHUP)
    wait_for("the message", lambda: f"daemon.run_dir: cannot listen in {d.dir}/file" in d.log())
    assert works(d, pg)
    edit(d, f"run_dir: {d.dir}/file", f"run_dir: {d.dir}/run")
    d.process.send_signal(signal.SIGHUP)
    wait_for("the old place", lambda: os.path.exists(f"{d.dir}/run/control.sock"))
    assert d.ctl("status")["pending"] == []


def asks(d, user, op="status"):
    code = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
            "b = ('{\"v\":1,\"op\":\"%s\",\"args\":{}}' % sys.argv[2]).encode(); "
            "s.sendall(len(b).to_bytes(4, 'little') + b); "
            "sys.exit(b'\"ok\":true' not in s.recv(65536))")
    return subprocess.run(["/usr/bin/python3", "-c", code, f"{d.dir}/run/control.sock", op], cwd="/",
                          stderr=subprocess.DEVNULL,
                          preexec_fn=harness.as_user(user)).returncode == 0


def test_the_group_of_administrators_changes(gateway, pg):
    d = gateway(workers=1)
    group = grp.getgrgid(pwd.getpwnam("postgres").pw_gid).gr_name
    assert not asks(d, "postgres")
    edit(d, "bpf: auto", f"admin_group: {group}, bpf: auto")
    d.ctl("policy.reload")
    assert asks(d, "postgres") and not asks(d, "nobody")
    edit(d, f"admin_group: {group}, ", "")
    d.ctl("policy.reload")
    assert not asks(d, "postgres")
    assert os.stat(f"{d.dir}/run/control.sock").st_mode & 0o777 == 0o600


def kills(d):
    """How many lines a worker writes when a session is ended by an operator."""
    def count():
        return len(re.findall(r"info +worker \d+: session .* ends: ", d.log()))
    before = count()
    conn = connect(d)
    for s in d.ctl("session.list"):
        d.ctl("session.kill", id=s["id"])
    wait_for("its end", lambda: not d.ctl("session.list"))
    conn.close()
    return count() - before


def test_the_level_of_the_log_is_followed(gateway, pg):
    d = gateway(workers=1)
    edit(d, "bpf: auto", "log_level: error, bpf: auto")
    d.ctl("policy.reload")
    d.ctl("policy.reload")
    assert d.log().count("configuration reloaded") == 0 and kills(d) == 0
    edit(d, "log_level: error", "log_level: info")
    d.ctl("policy.reload")
    assert d.log().count("configuration reloaded") == 1 and kills(d) == 1
    edit(d, "log_level: info", "log_level: warning")
    ctl(d, "daemon", "upgrade")
    wait_for("the old worker to end", lambda: len(d.ctl("status")["workers"]) == 1)
    d.ctl("policy.reload")
    assert d.log().count("configuration reloaded") == 1 and kills(d) == 0
    d.process.terminate()
    d.process.wait(40 * harness.SLOW)
    # The command line's word is the last.
    d.program = f"{d.dir}/verbose"
    with open(d.program, "w") as f:
        os.fchmod(f.fileno(), 0o755)
        f.write(f'#!/bin/sh\nexec {harness.BUILD}/tidegated -l info "$@"\n')
    d.start()
    d.ctl("policy.reload")
    assert d.log().count("configuration reloaded") == 2 and kills(d) == 1
    ctl(d, "daemon", "upgrade")
    d.ctl("policy.reload")
    assert d.log().count("configuration reloaded") == 3


class Refuses(http.server.BaseHTTPRequestHandler):
    """A decision point that says no."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"decision": false}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def audit_of(d):
    with open(f"{d.dir}/state/audit.jsonl") as f:
        return [json.loads(line) for line in f]


def test_an_agent_that_loops_cannot_fill_the_audit_log(daemon, pg):
    """So many of its decisions in full; the rest is counted, and told when the daemon ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    d = daemon(f"audit: {{ agent_lines: 3 }}\napprovals:\n  pdp: {{ by: authzen, timeout: 5s, url: "
               f"'http://127.0.0.1:{server.server_address[1]}' }}\n"
               + harness.policy(pg.port, commands=[
                   "{ effect: [ddl, write], do: approve, approval: pdp }",
                   "{ effect: any, do: allow }"]), workers=1)
    loop = [x for n in range(20) for x in ("-c", f"CREATE TABLE loop_{n} (a int)")]
    began = time.monotonic()
    assert d.psql(pg.port, *loop).count("decision point refused") == 20
    d.stop_process()
    server.shutdown()
    events = audit_of(d)
    full = [e for e in events if e["event"] == "approval.decided"]
    left = [e for e in events if e["event"] == "audit.left_out"]
    assert all(e["agent"] == "bot" and not e["approved"] for e in full), full
    assert sum(e["n"] for e in left) + len(full) == 20, (full, left)
    if time.monotonic() - began < 60:
        assert len(full) == 3 and len(left) == 1, (full, left)
        assert [(k["event"], k["n"]) for k in left[0]["what"]] == [("approval.decided", 17)], left
    assert events[-1]["event"] in ("daemon.stop", "audit.left_out")
