# SPDX-License-Identifier: MIT
"""`protocol: tcp`: who may connect is decided, what passes is recorded, and nothing is looked into."""
import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
import time

import harness
import pytest
from harness import wait_for

DIALER = """
import os, socket, sys
up = socket.socket(fileno=0)
while True:
    to = up.recv(64)
    if not to:
        break
    s = socket.socket()
    try:
        s.connect(("127.0.0.1", int(to)))
        socket.send_fds(up, [b"0"], [s.fileno()])
    except OSError as e:
        up.send(b"%d" % e.errno)
    s.close()
"""


class Agent:
    """A process in the agent's cgroup that connects, and hands the socket over."""

    def __init__(self, d):
        self.up, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.p = subprocess.Popen(["/usr/bin/python3", "-c", DIALER], stdin=theirs,
                                  preexec_fn=d.join())
        theirs.close()

    def dial(self, port):
        self.up.send(b"%d" % port)
        data, fds, _, _ = socket.recv_fds(self.up, 16, 1)
        if not fds:
            raise OSError(int(data), os.strerror(int(data)))
        s = socket.socket(fileno=fds[0])
        s.settimeout(10 * harness.SLOW)
        return s

    def close(self):
        self.up.close()
        self.p.wait(10)


def listen():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(64)
    s.settimeout(10 * harness.SLOW)
    return s


def config(port, access="none", target="", name="box"):
    access = access if "{" in access else f"{{ approval: {access} }}"
    return (f"agents: {{ bot: {{ cgroup: $CGROUP }} }}\ntargets:\n  {name}:\n"
            f'    address: "127.0.0.1:{port}"\n    protocol: tcp\n' +
            "".join(f"    {line}\n" for line in target.splitlines()) +
            f"policy:\n  - agents: [bot]\n    targets: [{name}]\n    access: {access}\n")


class Box:
    """A daemon with one opaque target, an agent, and the server that is the target."""

    def __init__(self, daemon, **kw):
        journal = kw.pop("journal", "16MiB")
        self.server = listen()
        self.port = self.server.getsockname()[1]
        self.d = daemon(config(self.port, **kw), journal=journal)
        self.agent = Agent(self.d)

    def dial(self):
        return self.agent.dial(self.port)

    def accept(self):
        s = self.server.accept()[0]
        s.settimeout(10 * harness.SLOW)
        return s

    def pair(self):
        c = self.dial()
        return c, self.accept()

    def ended(self):
        """The one recording, once the session is over."""
        wait_for("the session's end", lambda: not self.d.ctl("session.list"))
        return wait_for("its recording", lambda: self.d.recordings())[-1]

    def records(self, kind=None):
        out = subprocess.run([f"{harness.BUILD}/tidegate", "recording", "export", self.ended()],
                             capture_output=True, text=True, check=True).stdout
        rows = [json.loads(line) for line in out.splitlines()]
        return [r for r in rows if kind in (None, r["type"])]

    def reason(self):
        return self.records("end")[0]["data"]["reason"]


@pytest.fixture
def box(daemon):
    made = []

    def make(**kw):
        b = Box(daemon, **kw)
        made.append(b)
        return b
    yield make
    for b in made:
        b.agent.close()
        b.server.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def is_reset(s, data=b""):
    """@data, and then a reset."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := s.recv(65536):
            got += part
        return False
    assert got == data, (got, data)
    return True


def rest(s):
    got = b""
    while part := s.recv(65536):
        got += part
    return got


# ------------------------------------------------------------------ streams

def test_both_ways_and_recorded(box):
    b = box()
    c, s = b.pair()
    s.sendall(b"220 hello\r\n")
    assert c.recv(100) == b"220 hello\r\n"
    c.sendall(b"\0\xff question")
    assert s.recv(100) == b"\0\xff question"
    s.sendall(b"answer")
    assert c.recv(100) == b"answer"
    c.close()
    assert s.recv(100) == b""
    s.close()
    path = b.ended()
    rows = b.records()
    assert rows[0]["data"]["protocol"] == "tcp" and rows[0]["data"]["agent"] == "bot"
    assert [r["data"]["decision"] for r in rows if r["type"] == "decision"] == ["allow"]
    assert [r["type"] for r in rows if r["type"] in ("client", "server")] == [
        "server", "client", "server"]
    assert b.reason() == "client_closed"
    shown = subprocess.run([f"{harness.BUILD}/tidegate", "recording", "replay", path],
                           capture_output=True, text=True).stdout
    assert "< 220 hello\\r\\n" in shown and "< answer" in shown, shown
    assert "> \\x00\\xff question" in shown, shown
    assert "11 bytes from the client, 17 from the server" in shown, shown
    verdict, = json.loads(subprocess.run(
        [f"{harness.BUILD}/tidegate", "-j", "recording", "verify", "--rerun", path],
        capture_output=True, text=True).stdout)
    assert verdict["ok"] and verdict["rerun"]["ok"], verdict
    assert verdict["rerun"]["server_bytes"] == 17, verdict


def test_either_side_may_end_first(box):
    b = box()
    c, s = b.pair()
    c.sendall(b"all I say")
    c.shutdown(socket.SHUT_WR)
    assert rest(s) == b"all I say"
    time.sleep(0.1)
    s.sendall(b"late answer")
    s.close()
    assert rest(c) == b"late answer"
    c.close()
    c, s = b.pair()
    s.sendall(b"banner")
    s.shutdown(socket.SHUT_WR)
    assert rest(c) == b"banner"
    time.sleep(0.1)
    c.sendall(b"and yet")
    c.close()
    assert rest(s) == b"and yet"
    s.close()
    assert b.reason() == "upstream_closed"
    assert b.d.counters()["upstream_closed"] == 1 and b.d.counters()["client_closed"] == 1


def test_a_reset_of_one_side_is_one_of_the_other(box):
    b = box()
    c, s = b.pair()
    s.sendall(b"part")
    assert c.recv(10, socket.MSG_PEEK) == b"part"
    reset(s)
    assert is_reset(c, b"part")
    c, s = b.pair()
    c.sendall(b"part")
    assert s.recv(10, socket.MSG_PEEK) == b"part"
    reset(c)
    assert is_reset(s, b"part")
    c, s = b.pair()
    s.close()
    assert rest(c) == b""
    with pytest.raises(ConnectionError):  # nobody is there any more who would take it
        for _ in range(100):
            c.sendall(b"x")
            time.sleep(0.01)


def test_a_reset_is_told_while_nothing_is_read(box):
    """The other side does not take what came before: it is told all the same."""
    b = box()
    c, s = b.pair()
    s.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            s.sendall(b"x" * 65536)
    reset(s)
    wait_for("the reset", lambda: not b.d.ctl("session.list"))
    got = 0
    with pytest.raises(ConnectionResetError):
        while part := c.recv(1 << 20):
            got += len(part)
    assert got > 65536


# ------------------------------------------------------------------- access

def test_held_until_approved_and_nothing_is_read(box):
    b = box(access="builtin")
    c = b.dial()
    c.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 64 << 20:
            sent += c.send(b"p" * 65536)
    assert sent < 32 << 20
    a = b.d.approval()
    assert a["target"] == "box" and a["agent"] == "bot"
    b.server.settimeout(0.3)
    with pytest.raises(TimeoutError):
        b.server.accept()
    row = wait_for("the state", lambda: [x for x in b.d.ctl("session.list")
                                         if x["state"] == "held"])[0]
    assert row["bytes_in"] == 0, row
    b.d.ctl("approval.approve", id=a["id"])
    b.server.settimeout(10 * harness.SLOW)
    s = b.accept()
    s.sendall(b"welcome")
    c.settimeout(10 * harness.SLOW)
    assert c.recv(100) == b"welcome"
    c.shutdown(socket.SHUT_WR)
    got = rest(s)
    assert len(got) == sent and set(got) == {ord("p")}


def test_who_has_said_all_while_held_is_heard(box):
    """`echo hello | nc -N`: its end is no change of mind."""
    b = box(access="builtin")
    c = b.dial()
    c.sendall(b"hello")
    c.shutdown(socket.SHUT_WR)
    a = b.d.approval()
    time.sleep(0.3)
    assert b.d.ctl("approval.list")[0]["id"] == a["id"]
    b.d.ctl("approval.approve", id=a["id"])
    s = b.accept()
    assert rest(s) == b"hello"
    s.sendall(b"hello yourself")
    s.close()
    assert rest(c) == b"hello yourself"


def test_who_resets_while_held_is_gone(box):
    b = box(access="builtin")
    c = b.dial()
    b.d.approval()
    reset(c)
    wait_for("the approval to go", lambda: not b.d.ctl("approval.list"))
    assert b.reason() == "client_closed"


def test_a_refusal_is_a_reset_and_told_in_the_log(box):
    b = box(access="builtin")
    c = b.dial()
    a = b.d.approval()
    b.d.ctl("approval.deny", id=a["id"], reason="not today")
    assert is_reset(c)
    assert b.reason() == "approval_denied"
    decision = [r["data"] for r in b.records("decision")][0]
    assert decision["decision"] == "deny" and decision["request"] == a["id"], decision
    log = wait_for("the log", lambda: [x for x in b.d.log().splitlines() if " ends: " in x])
    assert "of bot on box ends: the approver said no" in log[0], log
    assert b.d.counters()["approval_denied"] >= 1


def test_no_policy_entry_is_a_reset(box, daemon):
    server = listen()
    port = server.getsockname()[1]
    d = daemon(config(port) + "  - { agents: [other], targets: [box], access: { approval: none } }\n"
               .replace("other", "bot"), journal="16MiB")
    text = open(d.config_path).read().replace("policy:\n  - agents: [bot]", "policy:\n  - agents: [nobody]", 1)
    text = text.replace("agents: { bot:", "agents: { nobody: { cgroup: /nobody }, bot:")
    text = text.replace("  - { agents: [bot], targets: [box]", "  - { agents: [nobody], targets: [box]")
    open(d.config_path, "w").write(text)
    d.ctl("policy.reload")
    agent = Agent(d)
    assert is_reset(agent.dial(port))
    wait_for("the count", lambda: d.counters().get("no_rule"))
    agent.close()
    server.close()


def test_a_grants_end_resets_both_sides_within_100_ms(box):
    b = box(access="{ approval: builtin, max: 2s }")
    c = b.dial()
    a = b.d.approval()
    b.d.ctl("approval.approve", id=a["id"])
    begun = time.monotonic()
    s = b.accept()
    c.sendall(b"half a fi")
    assert s.recv(100) == b"half a fi"
    assert is_reset(s)
    took = time.monotonic() - begun
    assert is_reset(c)
    assert 1.9 < took < 2.1 + 0.4 * (harness.SLOW - 1), took
    assert b.reason() == "grant_expired"
    wait_for("the grant to go", lambda: not b.d.ctl("grant.list"))


def test_a_revoked_grant_ends_it_at_once(box):
    b = box(access="builtin")
    c = b.dial()
    b.d.ctl("approval.approve", id=b.d.approval()["id"])
    s = b.accept()
    c.sendall(b"x")
    assert s.recv(1) == b"x"
    g, = b.d.ctl("grant.list")
    begun = time.monotonic()
    b.d.ctl("grant.revoke", id=g["id"])
    assert is_reset(s) and is_reset(c)
    assert time.monotonic() - begun < 0.1 * harness.SLOW
    assert b.reason() == "grant_revoked"


def test_a_target_that_is_down(box):
    b = box()
    b.server.close()
    assert is_reset(b.dial())
    assert b.reason() == "upstream_refused"


def test_killed_by_an_operator(box):
    b = box()
    c, s = b.pair()
    row, = b.d.ctl("session.list")
    b.d.ctl("session.kill", id=row["id"])
    assert is_reset(c) and is_reset(s)


# ------------------------------------------------------------------- limits

def test_bytes_end_a_session(box):
    b = box(target="limits: { bytes: 100000 }")
    c, s = b.pair()
    s.sendall(b"a" * 40000)
    got = b""
    while len(got) < 40000:
        got += c.recv(65536)
    c.sendall(b"b" * 70000)
    got = b""
    with pytest.raises(ConnectionResetError):
        while part := s.recv(65536):
            got += part
    assert got == b"b" * len(got) and len(got) <= 60000, len(got)
    assert is_reset(c)
    assert b.reason() == "session_bytes"
    sent = sum(r["bytes"] for r in b.records("client"))
    assert sent == 60000, sent


def test_time_ends_a_session(box):
    b = box(target="limits: { time: 1s }")
    begun = time.monotonic()
    c, s = b.pair()
    stop = threading.Event()

    def talk():
        with contextlib.suppress(OSError):
            while not stop.wait(0.05):
                c.sendall(b"x")
    t = threading.Thread(target=talk)
    t.start()
    with pytest.raises(ConnectionResetError):
        while s.recv(100):
            pass
    took = time.monotonic() - begun
    stop.set()
    t.join()
    assert 0.9 < took < 2 * harness.SLOW, took
    assert b.reason() == "session_time"


def test_silence_ends_a_session_and_words_do_not(box):
    b = box(target="limits: { idle: 1s }")
    c, s = b.pair()
    begun = time.monotonic()
    for _ in range(5):
        c.sendall(b"x")
        assert s.recv(1) == b"x"
        time.sleep(0.4)
    assert is_reset(s) and is_reset(c)
    assert 2.5 < time.monotonic() - begun < 3.2 * harness.SLOW
    assert b.reason() == "session_idle"


def test_a_slow_reader_is_not_silent(box):
    """Nothing new is read from the server for seconds, while the client takes what is there."""
    b = box(target="limits: { idle: 1s }")
    c, s = b.pair()

    def send():
        with contextlib.suppress(OSError):
            s.sendall(b"x" * (64 << 20))
    t = threading.Thread(target=send)
    t.start()
    for _ in range(20):
        assert c.recv(100000)
        time.sleep(0.2)
    begun = time.monotonic()
    wait_for("its end, as it takes nothing any more", lambda: not b.d.ctl("session.list"))
    assert time.monotonic() - begun < 3 * harness.SLOW
    t.join()
    c.close()
    assert b.reason() == "session_idle"


# ------------------------------------------------------------------- reload

def test_another_protocol_ends_the_session(box):
    b = box()
    c, s = b.pair()
    c.sendall(b"x")
    assert s.recv(1) == b"x"
    harness.reload_with(b.d, "protocol: tcp", "protocol: postgresql")
    assert is_reset(c) and is_reset(s)
    assert b.reason() == "policy_changed"


def test_what_cannot_be_asked_of_it_is_an_error(box):
    b = box()
    text = open(b.d.config_path).read()
    for old, new, words in (
            ("    access:", "    commands: [{ effect: any, do: allow }]\n    access:",
             "`commands` cannot be applied to target `box`"),
            ("    access:", "    mask: [{ detect: [card], as: redact }]\n    access:",
             "`mask` cannot be applied to target `box`"),
            ("protocol: tcp", "protocol: tcp\n    socket: /run/x", "`socket` cannot be used")):
        with open(b.d.config_path, "w") as f:
            f.write(text.replace(old, new))
        with pytest.raises(harness.Refused, match=words):
            b.d.ctl("policy.reload")
    with open(b.d.config_path, "w") as f:
        f.write(text)
    c, s = b.pair()
    c.sendall(b"still")
    assert s.recv(10) == b"still"
