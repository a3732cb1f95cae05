# SPDX-License-Identifier: MIT
"""Peers that do everything wrong, on both sides: no worker dies of it, no session stays."""
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
from harness import Raw, message, startup, wait_for, works

SLEEP = "SELECT pg_sleep(1)"
EXTENDED = (message(b"P", b"\0SELECT 7\0\0\0") + message(b"B", b"\0\0\0\0\0\0\0\0") +
            message(b"E", b"\0\0\0\0\0"))


def unharmed(d):
    """Whatever happened: the sessions are gone and no process was restarted."""
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [], 15)
    assert [w["restarts"] for w in d.ctl("status")["workers"]] == [0] * len(
        d.ctl("status")["workers"])
    assert d.ctl("approval.list") == []


def of(got, kind):
    return [body for k, body in got if k == kind]


def test_one_byte_at_a_time(gateway):
    d = gateway(workers=1)
    c = Raw(d.gate, login=False)
    c.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = (startup() + message(b"Q", b"SELECT 'a', 1\0") + EXTENDED + message(b"S") +
              message(b"Q", b"COPY notes (body) FROM STDIN\0") + message(b"d", b"one byte\n") +
              message(b"c") + message(b"X"))
    for i in range(len(stream)):
        c.send(stream[i:i + 1])
        if i % 16 == 0:
            time.sleep(0.001)
    got = c.until(None)
    assert [len(of(got, k)) for k in (b"D", b"Z", b"G", b"E")] == [2, 4, 1, 0], got
    unharmed(d)


def test_large_parse(gateway):
    d = gateway(workers=1, target="limits: { statement_bytes: 8MiB, message_bytes: 16MiB }")
    c = Raw(d.gate)
    values = ", ".join(f"({i})" for i in range(100_000))
    sql = f"SELECT count(*) FROM (VALUES {values}) v (i)"
    c.send(message(b"P", b"\0" + sql.encode() + b"\0\0\0"), EXTENDED[len(message(b"P", b"\0SELECT 7\0\0\0")):],
           message(b"S"))
    got = c.until(b"Z")
    assert of(got, b"D") and b"100000" in of(got, b"D")[0]
    # Longer than what is judged: it is swallowed and refused, and the session goes on.
    before = harness.rss_kib(d.children()["worker 0"])
    c.send(message(b"P", b"\0SELECT 1 --" + b"x" * (40 << 20) + b"\0\0\0"), message(b"S"))
    assert b"C54000" in of(c.until(b"Z"), b"E")[0]
    harness.assert_grew(harness.rss_kib(d.children()["worker 0"]) - before, 20_000)
    c.query("SELECT 8")
    assert of(c.until(b"Z"), b"D")[0].endswith(b"8")
    c.close()
    unharmed(d)


STATES = {
    "connected": b"",
    "in the length": startup()[:2],
    "in the startup": startup()[:-3],
    "after the startup": startup(),
    "in a message": startup() + b"Q\0\0\0\x20SELECT",
    "running": startup() + message(b"Q", SLEEP.encode() + b"\0"),
    "in a batch": startup() + EXTENDED,
    "behind a sync": startup() + (EXTENDED + message(b"S")) * 3,
    "in copy": startup() + message(b"Q", b"COPY notes FROM STDIN\0") + message(b"d", b"1\t"),
    "in a copy message": startup() + message(b"Q", b"COPY notes FROM STDIN\0") + b"d\0\0\1\0x",
    "results unread": startup() + message(b"Q", b"SELECT repeat('x', 100000) FROM "
                                                b"generate_series(1, 1000)\0"),
}


@pytest.mark.parametrize("how", ["half", "close", "reset"])
def test_end_in_each_state(gateway, how):
    d = gateway(workers=1)
    for name, sent in STATES.items():
        for wait in (0, 0.15):
            c = Raw(d.gate, login=False)
            if sent:
                c.send(sent)
            time.sleep(wait)
            if how == "reset":
                c.reset()
            elif how == "close":
                c.close()
            else:
                c.s.shutdown(socket.SHUT_WR)
                c.rest()
    unharmed(d)
    assert works(d)
    assert d.counters()["client_closed"] >= len(STATES)


def test_half_close_still_gets_its_answers(gateway):
    d = gateway(workers=1)
    c = Raw(d.gate)
    c.send(message(b"Q", b"SELECT pg_sleep(0.3), 'late'\0"))
    c.s.shutdown(socket.SHUT_WR)
    got = c.until(None)
    assert b"late" in of(got, b"D")[0]
    unharmed(d)


@pytest.mark.parametrize("kind", ["access", "statement"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_held(gateway, kind, how):
    d = gateway(workers=1, policy={"access": "builtin"} if kind == "access" else {
        "commands": ["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]})
    clients = []
    for i in range(20):
        c = Raw(d.gate, login=kind == "statement")
        c.send(startup() if kind == "access" else message(b"Q", b"CREATE TABLE t%d (i int)\0" % i))
        # Bytes behind the held one are not read, and do not hide the end.
        c.send(message(b"Q", b"SELECT 1\0") * (i % 3))
        clients.append(c)
    wait_for("the approvals", lambda: len(d.ctl("approval.list")) >= (1 if kind == "access" else 20))
    for c in clients:
        c.reset() if how == "reset" else c.close()
    wait_for("the approvals to go", lambda: d.ctl("approval.list") == [])
    unharmed(d)


def test_ten_thousand_syncs(gateway):
    d = gateway(workers=1)
    c = Raw(d.gate)
    threading.Thread(target=c.send, args=(message(b"S") * 10_000,), daemon=True).start()
    for _ in range(10_000):
        assert c.next() == (b"Z", b"I")
    threading.Thread(target=c.send, args=((EXTENDED + message(b"S")) * 5_000,), daemon=True).start()
    got = [len(of(c.until(b"Z"), b"D")) for _ in range(5_000)]
    assert got == [1] * 5_000
    c.send(message(b"X"))
    unharmed(d)


def test_pipelined_denials_keep_their_places(gateway):
    d = gateway(workers=1, policy={"commands": ["{ effect: ddl, do: deny }",
                                                "{ effect: any, do: allow }"]})
    c = Raw(d.gate)
    batch = b"".join(message(b"Q", b"SELECT %d\0" % i) + message(b"Q", b"DROP TABLE customers\0")
                     for i in range(1000))
    threading.Thread(target=c.send, args=(batch,), daemon=True).start()
    for i in range(1000):
        rows = of(c.until(b"Z"), b"D")
        assert rows and rows[0].endswith(str(i).encode())
        assert b"denied" in of(c.until(b"Z"), b"E")[0]
    assert d.counters()["rule_deny"] == 1000
    c.close()
    unharmed(d)


DENY_DDL = {"commands": ["{ effect: ddl, do: deny }", "{ effect: any, do: allow }"]}
FLOOD = 20_000  # a single read of the worker holds most of them


def flood(first=0):
    """No two alike: each is judged and recorded for itself."""
    return b"".join(message(b"Q", b"DROP TABLE t%d\0" % i) for i in range(first, first + FLOOD))


def later(c, data):
    """Sends while the caller reads, or until there is nobody to take it."""
    def send():
        with contextlib.suppress(OSError):
            c.send(data)
    threading.Thread(target=send, daemon=True).start()


def test_flood_leaves_others_their_turn(gateway):
    d = gateway(workers=1, policy=DENY_DDL)
    flooder, other, rounds = Raw(d.gate, timeout=60), Raw(d.gate), 3
    batches = [flood(i * FLOOD) for i in range(rounds)]
    over = threading.Event()

    def send():
        for b in batches:
            flooder.send(b)
        flooder.s.shutdown(socket.SHUT_WR)

    def read():
        flooder.denied = flooder.rest().count(b"denied by")
        over.set()
    for f in (send, read):
        threading.Thread(target=f, daemon=True).start()
    took = []
    while not over.is_set():
        began = time.monotonic()
        other.query("SELECT 1")
        other.until(b"Z")
        took.append(time.monotonic() - began)
    took.sort()
    # A turn that knew no end took a tenth of a second and more, each time.
    assert len(took) >= 20 and took[len(took) * 99 // 100 - 1] < 0.1 * harness.SLOW, took[-10:]
    # Nor is there more to be recorded in a turn than there is room for.
    assert flooder.denied == d.counters()["rule_deny"] == rounds * FLOOD
    assert "record_failed" not in {k for k, v in d.counters().items() if v}
    other.close()
    unharmed(d)


def test_all_of_a_flood_before_the_end(gateway):
    d = gateway(workers=1, policy=DENY_DDL)
    c = Raw(d.gate, timeout=60)

    def send():
        c.send(flood(), message(b"Q", b"SELECT 'the last'\0"))
        c.s.shutdown(socket.SHUT_WR)
    threading.Thread(target=send, daemon=True).start()
    got = c.rest()
    assert got.count(b"denied by") == FLOOD and got.index(b"the last") > got.rindex(b"denied by")
    # One that goes away, or is ended, in the middle of it.
    for how in ("reset", "close", "kill"):
        c = Raw(d.gate)
        later(c, flood())
        before = d.counters()["rule_deny"]
        wait_for("some", lambda n=before: d.counters()["rule_deny"] > n)
        if how == "kill":
            d.ctl("session.kill", id=d.ctl("session.list")[0]["id"])
            c.rest()
        c.reset() if how == "reset" else c.close()
    unharmed(d)
    assert works(d)


def test_all_of_the_answers_before_the_end(gateway):
    n = 4000  # as many as may be in flight; the last one is in no first read

    def act(s):
        got = b""
        while b"last" not in got:
            got += s.recv(1 << 20)
        s.sendall(b"".join(message(b"C", b"SELECT %d\0" % i) + message(b"Z", b"I")
                           for i in range(n)))
    fake = Fake(act)
    d = gateway(port=fake.port, workers=1)
    c = Raw(d.gate)
    later(c, message(b"Q", b"SELECT 1 -- and so on\0") * (n - 1) + message(b"Q", b"SELECT 'last'\0"))
    for i in range(n):
        assert c.until(b"Z")[0] == (b"C", b"SELECT %d\0" % i)
    c.rest()
    unharmed(d)
    fake.close()


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_waiting_for_the_server_costs_nothing(gateway):
    stop = threading.Event()
    fake = Fake(lambda s: stop.wait(60))
    fake.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    d = gateway(port=fake.port, workers=1, policy=DENY_DDL)
    c = Raw(d.gate)
    # Refusals fill the turns, and what is let through fills the sockets.
    batch = (message(b"Q", b"SELECT '" + b"x" * 8000 + b"'\0") +
             message(b"Q", b"DROP TABLE t\0") * 24) * 1000
    later(c, batch)
    wait_for("bytes that wait", lambda: waiting(d)[0] > 0)
    pid = d.children()["worker 0"]
    before = cpu_s(pid)
    time.sleep(1)
    assert cpu_s(pid) - before < 0.5
    c.reset()
    stop.set()
    unharmed(d)
    fake.close()


def test_copy_in_is_given_up(gateway):
    d = gateway(workers=1)
    c = Raw(d.gate)
    for _ in range(3):
        c.query("COPY notes (body) FROM STDIN")
        c.until(b"G")
        c.send(message(b"d", b"not kept\n"), message(b"f", b"changed my mind\0"))
        got = c.until(b"Z")
        assert b"changed my mind" in of(got, b"E")[0] and got[-1] == (b"Z", b"I")
    # Data that the server refuses at once: the rest of it is swallowed, nothing is out of step.
    c.query("COPY customers (id) FROM STDIN")
    c.until(b"G")
    c.send(message(b"d", b"no number\n") * 10_000, message(b"c"))
    assert b"22P02" in of(c.until(b"Z"), b"E")[0]
    c.query("SELECT count(*) FROM notes WHERE body = 'not kept'")
    assert of(c.until(b"Z"), b"D")[0].endswith(b"0")
    c.close()
    unharmed(d)


class Fake:
    """A server that logs everybody in and then does what @act(socket) does."""

    HELLO = (message(b"R", b"\0\0\0\0") + message(b"S", b"server_version\x0015.0\0") +
             message(b"S", b"standard_conforming_strings\0on\0") +
             message(b"S", b"client_encoding\0UTF8\0") + message(b"K", b"\0\0\0\1\0\0\0\2") +
             message(b"Z", b"I"))

    def __init__(self, act, hello=None, accept=True):
        self.act, self.hello = act, self.HELLO if hello is None else hello
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0 if not accept else 64)
        self.port = self.listener.getsockname()[1]
        if accept:
            threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            with s:
                s.recv(65536)
                s.sendall(self.hello)
                if s.recv(65536):
                    self.act(s)
        except OSError:
            pass

    def close(self):
        self.listener.close()


ROW = message(b"T", b"\0\1x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")

GARBAGE = {
    "random": bytes(range(256)) * 64,
    "a length below four": b"D\0\0\0\1",
    "a huge length": b"E\xff\xff\xff\xff",
    "an unknown type": message(b"~", b"x"),
    "rows that nobody described": message(b"D", b"\0\1\0\0\0\1a"),
    "more columns than described": ROW + message(b"D", b"\0\2\0\0\0\1a\0\0\0\1b"),
    "a column over its row": ROW + message(b"D", b"\0\1\0\0\xff\xffa"),
    "a negative length": ROW + message(b"D", b"\0\1\x80\0\0\0a"),
    "a second login": message(b"R", b"\0\0\0\3"),
    "too many answers": message(b"C", b"SELECT 1\0") + message(b"Z", b"I") * 3,
    "a parse that nobody asked for": message(b"1"),
    "copy data without copy": message(b"d", b"x\n"),
    "an unknown status": message(b"C", b"SELECT 1\0") + message(b"Z", b"?"),
    "a description that is too short": message(b"T", b"\0\x09x\0"),
    "nothing, then the end": b"",
}


@pytest.mark.parametrize("masked", [False, True])
def test_garbage_of_the_server(gateway, masked):
    for name, bytes_ in GARBAGE.items():
        fake = Fake(lambda s, b=bytes_: s.sendall(b))
        d = gateway(port=fake.port, workers=1, policy={
            "mask": ["{ detect: [card, email], as: redact }"]} if masked else {})
        c = Raw(d.gate)
        c.query("SELECT 1")
        c.rest()
        c.close()
        unharmed(d)
        seen = {k for k, v in d.counters().items() if v}
        assert seen & {"proto_bad", "proto_limit", "proto_unsupported", "upstream_closed",
                       "server_unasked_auth", "client_closed"}, (name, seen)
        fake.close()
        d.stop()


@pytest.mark.parametrize("hello", [
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"S", b"N", b"R\0\0\0\4",
    message(b"R", b"\0\0\0\x63"), message(b"E", b"SFATAL\0C53300\0Mtoo many\0\0"), b"R\xff\xff\xff\xff",
    message(b"Z", b"I"), message(b"v", b"\0\0\0\0\0\0\0\0")])
def test_strange_welcome(gateway, hello):
    fake = Fake(lambda s: None, hello=hello)
    d = gateway(port=fake.port, workers=1)
    c = Raw(d.gate, login=False, timeout=5)
    c.send(startup())
    time.sleep(0.2)
    c.s.shutdown(socket.SHUT_WR)
    c.rest()
    c.close()
    unharmed(d)
    fake.close()


def test_server_dies_in_the_middle_of_a_result(gateway):
    def act(s):
        s.sendall(ROW + message(b"D", b"\0\1\0\0\0\1a") * 1000 + b"D\0\0\1\0\0")
    fake = Fake(act)
    d = gateway(port=fake.port, workers=1)
    c = Raw(d.gate)
    c.query("SELECT x FROM t")
    got = c.rest()
    assert got.count(b"\0\1\0\0\0\1a") == 1000
    unharmed(d)
    assert d.counters()["upstream_closed"] == 1
    fake.close()


def test_server_killed_under_load(gateway):
    own = harness.Postgres()
    try:
        harness.make_shop(own)
        d = gateway(port=own.port, workers=2)
        bench = subprocess.Popen(["pgbench", "-n", "-f", "/dev/stdin", "-c", "8", "-T", "20", "-h",
                                  "127.0.0.1", "-p", str(d.gate), "-U", "agent", "shop"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        bench.stdin.write("SELECT repeat('x', 10000) FROM generate_series(1, 20);\n")
        bench.stdin.close()
        wait_for("load", lambda: len(d.ctl("session.list")) == 8)
        time.sleep(0.5)
        own.run([f"{harness.PGBIN[0]}/pg_ctl", "-D", own.data, "-m", "immediate", "-w", "restart"])
        with open(f"{own.data}/postmaster.pid") as f:
            own.pid = int(f.readline())
        assert bench.wait(15 * harness.SLOW) != 0
        unharmed(d)
        assert works(d)
    finally:
        own.stop()


def test_target_that_does_not_accept(gateway):
    fake = Fake(None, accept=False)
    filler = []
    for _ in range(4):  # the backlog is full: the next SYN is not answered
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", fake.port))
        filler.append(s)
    time.sleep(0.2)
    d = gateway(port=fake.port, workers=1, target="connect_timeout: 1s")
    began = time.monotonic()
    c = Raw(d.gate, login=False)
    c.send(startup())
    got = c.until(None)
    assert b"did not answer in time" in of(got, b"E")[0]
    assert 0.9 < time.monotonic() - began < 3 * harness.SLOW
    # One that goes away meanwhile is no session any more when the time is over.
    c = Raw(d.gate, login=False)
    c.send(startup())
    c.reset()
    unharmed(d)
    assert d.counters()["upstream_timeout"] >= 1
    fake.close()


def test_target_that_accepts_late(gateway):
    fake = Fake(lambda s: s.sendall(message(b"C", b"SELECT 0\0") + message(b"Z", b"I")),
                accept=False)
    d = gateway(port=fake.port, workers=1)
    c = Raw(d.gate, login=False)
    c.send(startup())
    time.sleep(1)
    threading.Thread(target=fake.loop, daemon=True).start()
    assert c.until(b"Z")[-1] == (b"Z", b"I")
    c.query("SELECT 1")
    assert c.until(b"Z")[-1] == (b"Z", b"I")
    c.close()
    unharmed(d)
    fake.close()


def test_server_that_does_not_read(gateway):
    stop = threading.Event()
    fake = Fake(lambda s: stop.wait(30))
    d = gateway(port=fake.port, workers=1, target="limits: { message_bytes: 8MiB }")
    pid = d.children()["worker 0"]
    before = harness.rss_kib(pid)
    c = Raw(d.gate, timeout=1)
    with pytest.raises(TimeoutError):
        for i in range(200):
            c.query(f"SELECT {i} -- " + "x" * 500_000)
    harness.assert_grew(harness.rss_kib(pid) - before, 40_000)
    c.reset()
    stop.set()
    unharmed(d)
    fake.close()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_the_server_does_not_read(gateway, how):
    stop = threading.Event()
    closed = []

    def act(s):
        stop.wait(60)
        with contextlib.suppress(OSError):
            while s.recv(1 << 20):
                pass
        closed.append(s)
    fake = Fake(act)
    d = gateway(port=fake.port, workers=1, target="limits: { message_bytes: 8MiB }")
    c = Raw(d.gate)
    # So many that some wait in the worker, but not in the client's kernel: its end gets through.
    for i in range(1000):
        c.query(f"SELECT {i} -- " + "x" * 30_000)
        if waiting(d)[0]:
            break
    assert waiting(d)[0] > 0
    c.reset() if how == "reset" else c.close()
    wait_for("the session to go", lambda: d.ctl("session.list") == [], 10)
    assert d.counters()["client_closed"] == 1
    stop.set()
    wait_for("the server's side to be closed", lambda: len(closed) == 1)
    unharmed(d)
    fake.close()


def waiting(d):
    """Bytes that the worker keeps, for the server and for the client."""
    s = d.ctl("session.show", id=d.ctl("session.list")[0]["id"])["live"]
    return s["pending_to_server"], s["pending_to_client"]


def test_half_closed_while_the_server_is_slow(gateway):
    """Nobody is given up whose bytes go on, however slowly; the rest is sent, too."""
    total = 40
    got = []

    def act(s):
        s.settimeout(60 * harness.SLOW)
        while part := s.recv(1 << 20):
            got.append(len(part))
            time.sleep(0.02)
        s.sendall(message(b"C", b"SELECT 0\0") + message(b"Z", b"I"))
    fake = Fake(act)
    d = gateway(port=fake.port, workers=1, target="limits: { message_bytes: 8MiB }")
    c = Raw(d.gate, timeout=60)

    def send():
        for i in range(total):
            c.query(f"SELECT {i} -- " + "x" * 500_000)
        c.s.shutdown(socket.SHUT_WR)
    threading.Thread(target=send, daemon=True).start()
    assert c.until(b"Z")[-1] == (b"Z", b"I")
    assert sum(got) > total * 500_000 - 65536  # what was read first
    c.close()
    unharmed(d)
    fake.close()


def test_many_that_come_and_go(gateway):
    d = gateway(workers=2)
    for i in range(300):
        c = Raw(d.gate, login=False)
        c.send(startup()[:i % 40])
        c.reset() if i % 2 else c.close()
    unharmed(d)
    assert works(d)


def cancel(d, key, source="127.0.0.1"):
    with socket.create_connection(("127.0.0.1", d.gate), 10, (source, 0)) as s:
        s.sendall(b"\0\0\0\x10\x04\xd2\x16\x2e" + key)
        assert s.recv(1) == b""


def test_cancel_reaches_its_session_only(gateway):
    """Of several sessions on two workers; whose connection carries the request makes no difference."""
    d = gateway(workers=2)
    harness.reload_with(d, "agents:\n", "agents:\n  other: { source: [127.0.0.2/32] }\n")
    clients = []
    for _ in range(6):
        c = Raw(d.gate, login=False, timeout=60)
        c.send(startup())
        (c.key,) = of(c.until(b"Z"), b"K")
        c.query("SELECT pg_sleep(30)")
        clients.append(c)
    victim = clients[0]
    wrong = victim.key[:4] + bytes(b ^ 0x55 for b in victim.key[4:])
    cancel(d, wrong)
    wait_for("it to be counted", lambda: d.counters()["cancel_unknown"] == 1)
    harness.reload_with(d, "agents: [bot]", "agents: [bot, other]")
    cancel(d, victim.key, "127.0.0.2")
    wait_for("it to be counted", lambda: d.counters()["cancel_unknown"] == 2)
    for i, c in enumerate(clients):
        for later_one in clients[i:]:
            later_one.s.setblocking(False)
            with pytest.raises(BlockingIOError):
                later_one.s.recv(1)
            later_one.s.settimeout(20 * harness.SLOW)
        cancel(d, c.key)
        assert b"C57014" in of(c.until(b"Z"), b"E")[0]
    assert d.counters()["cancel_unknown"] == 2
    for c in clients:
        c.close()
    unharmed(d)


BAD = {
    "no startup": (b"GET / HTTP/1.1\r\n\r\n", "proto_bad"),
    "a startup without a user": (b"\0\0\0\x09\0\3\0\0\0", "proto_bad"),
    "a startup that is too long": (b"\0\1\0\0\0\3\0\0", "proto_limit"),
    "a startup that is too short": (b"\0\0\0\7\0\3\0\0", "proto_bad"),
    "a truncated startup": (startup()[:-3], "client_closed"),
    "an unknown message": (startup() + message(b"~", b"x"), "proto_bad"),
    "a length below four": (startup() + b"Q\0\0\0\3", "proto_bad"),
    "a negative length": (startup() + b"Q\xff\xff\xff\xff", "proto_limit"),
    "a sync that is too long": (startup() + b"S\x7f\xff\xff\xff", "proto_limit"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_its_reason(gateway, name):
    bytes_, reason = BAD[name]
    d = gateway(workers=1)
    pid = d.children()["worker 0"]
    c = Raw(d.gate, login=False)
    c.send(bytes_)
    c.s.shutdown(socket.SHUT_WR)
    c.rest()
    c.close()
    unharmed(d)
    assert {k: v for k, v in d.counters().items() if v} == {reason: 1}
    assert d.children()["worker 0"] == pid
    # A client that left before it had said who it is leaves no recording.
    if reason == "client_closed":
        assert d.recordings() == []
        return
    path = wait_for("the recording", d.recordings)[0]
    out = subprocess.run([f"{harness.BUILD}/tidegate", "recording", "export", path],
                         capture_output=True, text=True, check=True).stdout
    ends = [r["data"]["reason"] for r in map(json.loads, out.splitlines()) if r["type"] == "end"]
    assert ends == [reason]
