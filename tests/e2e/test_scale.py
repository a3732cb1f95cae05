# SPDX-License-Identifier: MIT
"""Many sessions: idle, held, and one after the other. None leaves anything behind."""
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

import harness
import pytest
from harness import Raw, message, wait_for

FULL = os.environ.get("TIDEGATE_TIER") == "full"
IDLE, HELD, TURNS = (10_000, 1_000, 3_000) if FULL else (1_000, 250, 300)
IDLE_BYTES = 2560  # of memory for an idle session
ANSWER = (message(b"T", b"\0\1x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0") +
          message(b"D", b"\0\1\0\0\0\6served") + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))
HELLO = (message(b"R", b"\0\0\0\0") + message(b"S", b"server_version\x0015.0\0") +
         message(b"S", b"standard_conforming_strings\0on\0") +
         message(b"K", b"\0\0\0\1\0\0\0\2") + message(b"Z", b"I"))


def files_wanted(n):
    """This process may have @n descriptors, or the test cannot be run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < n:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
        except (ValueError, PermissionError):
            pytest.skip(f"{n} descriptors are needed, this host allows {hard}")
    elif soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


STUB = """
import selectors, socket, sys
hello, answer = (bytes.fromhex(a) for a in sys.argv[1:])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(4096)
sel = selectors.DefaultSelector()
sel.register(listener, selectors.EVENT_READ)
print(listener.getsockname()[1], flush=True)
while True:
    for key, _ in sel.select():
        if key.fileobj is listener:
            sel.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        try:
            data = key.fileobj.recv(65536)
        except ConnectionError:
            data = b""
        if data:
            key.fileobj.sendall(hello if data[4:6] == b"\\0\\3" else answer if data[:1] == b"Q"
                                else b"")
        else:
            sel.unregister(key.fileobj)
            key.fileobj.close()
"""


@pytest.fixture
def stub():
    """A process that logs everybody in and answers every query, without a thread for each."""
    files_wanted(max(IDLE, HELD) + 500)
    p = subprocess.Popen([sys.executable, "-c", STUB, HELLO.hex(), ANSWER.hex()],
                         stdout=subprocess.PIPE)
    p.port = int(p.stdout.readline())
    p.rest = descriptors(p.pid)
    yield p
    p.kill()
    p.wait()


def private_kib(pid):
    """Without the journal, which is a mapping of a file."""
    with open(f"/proc/{pid}/status") as f:
        return int([line.split()[1] for line in f if line.startswith("RssAnon")][0])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def pids(d):
    return {"parent": d.process.pid, **d.children()}


def descriptors_of(d):
    return {name: descriptors(pid) for name, pid in pids(d).items()}


def at_rest(d):
    """The descriptors of daemons that have all they want and nothing to do."""
    Raw(d.gate).close()
    seen, since = descriptors_of(d), time.monotonic()
    while time.monotonic() - since < 2.5:
        time.sleep(0.1)
        if (now := descriptors_of(d)) != seen:
            seen, since = now, time.monotonic()
    return seen


def settle(d, want):
    """
    All sessions are over, and the recordings closed: the descriptors are those of before, but
    for the network namespaces of this host, which come and go and have listeners each.
    """
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [], 60)
    seen = {}

    def same():
        seen.update(descriptors_of(d))
        return all(seen[name] <= n + 60 for name, n in want.items())
    try:
        wait_for("the descriptors", same, 15)
    except AssertionError:
        raise AssertionError(f"descriptors: {want} before, {seen} now")


def test_idle_sessions(gateway, stub):
    d = gateway(port=stub.port, workers=2, journal="256MiB" if FULL else "64MiB")
    first, fds = IDLE // 5, at_rest(d)

    def memory():
        return sum(private_kib(pid) for name, pid in d.children().items() if "worker" in name)
    conns = [Raw(d.gate) for _ in range(first)]
    time.sleep(3)  # idle tails are written
    before = memory()
    conns += [Raw(d.gate) for _ in range(IDLE - first)]
    time.sleep(3)
    peak = memory()
    per = (peak - before) * 1024 / (IDLE - first)
    print(f"{per:.0f} bytes of memory for an idle session, of {IDLE}")
    harness.assert_grew(per, IDLE_BYTES)
    assert len(d.ctl("session.list")) == IDLE
    for c in conns[::IDLE // 10]:
        c.query("SELECT x FROM t")
        assert any(b"served" in body for _, body in c.until(b"Z"))
    for c in conns:
        c.close()
    settle(d, fds)
    wait_for("the server's side to be closed", lambda: descriptors(stub.pid) == stub.rest)
    # As many again need no more.
    conns = [Raw(d.gate) for _ in range(first)]
    harness.assert_grew(memory() - peak, 512)
    for c in conns:
        c.close()
    settle(d, fds)


def answer_all(d, operations):
    """All of them before the daemon reads the first, so that it has them at once."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60 * harness.SLOW)
        s.connect(f"{d.dir}/run/control.sock")
        d.process.send_signal(signal.SIGSTOP)
        bodies = [json.dumps({"v": 1, "op": op, "args": {"id": i}}).encode() for op, i in operations]
        s.sendall(b"".join(struct.pack("<I", len(b)) + b for b in bodies))
        d.process.send_signal(signal.SIGCONT)
        assert all(d.receive(s)["ok"] for _ in operations)


def test_many_held(gateway, stub):
    # Answered at once they want more of the journal than there is.
    d = gateway(port=stub.port, workers=1, journal="4MiB", policy={
        "commands": ["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]})
    fds = at_rest(d)
    watched = d.children()["worker 0"], d.process.pid
    conns = [Raw(d.gate) for _ in range(HELD)]
    idle = [private_kib(pid) for pid in watched]
    for i, c in enumerate(conns):
        c.query(f"CREATE TABLE held_{i} (a int)")
    wait_for("the approvals", lambda: len(d.ctl("approval.list")) == HELD, 30)
    before = [private_kib(pid) for pid in watched]
    print(f"{[(b - i) * 1024 // HELD for b, i in zip(before, idle)]} bytes for a held statement, "
          f"of {HELD}, in worker and parent")
    for b, i in zip(before, idle):
        harness.assert_grew(b - i, HELD * 16)
    time.sleep(3)
    for pid, kib in zip(watched, before):
        harness.assert_grew(private_kib(pid) - kib, 1024)
    approvals = d.ctl("approval.list")
    answer_all(d, [("approval.deny" if i % 2 else "approval.approve", a["id"])
                   for i, a in enumerate(approvals)])
    answers = [c.until(b"Z") for c in conns]
    assert sum(any(k == b"E" for k, _ in a) for a in answers) == HELD // 2
    assert sum(any(b"served" in b for _, b in a) for a in answers) == HELD // 2
    # And those that nobody answers any more, because the agents are gone.
    for i, c in enumerate(conns):
        c.query(f"CREATE TABLE again_{i} (a int)")
    wait_for("the approvals", lambda: len(d.ctl("approval.list")) == HELD, 30)
    for c in conns:
        c.close()
    wait_for("the approvals to go", lambda: d.ctl("approval.list") == [], 30)
    settle(d, fds)


@pytest.mark.parametrize("masked", [False, True] if FULL else [True])
def test_sessions_leave_nothing_behind(gateway, pg, masked):
    d = gateway(workers=2, policy={"mask": ["{ detect: [card], as: redact }"]} if masked else {})
    fds = at_rest(d)

    def turns(n):
        for i in range(n):
            c = Raw(d.gate)
            c.query(f"SELECT {i % 7}, name FROM customers")
            c.until(b"Z")
            c.close()
        settle(d, fds)
        return {name: private_kib(pid) for name, pid in pids(d).items()}
    before = turns(300)
    after = turns(TURNS)
    print(f"{TURNS} sessions: {before} -> {after} KiB")
    for name, kib in before.items():
        harness.assert_grew(after[name] - kib, 1024)
