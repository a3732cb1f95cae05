# SPDX-License-Identifier: MIT
"""Much of everything: rows, bytes of one field, idle sessions, held approvals."""
import resource
import selectors
import socket
import threading
import time

import harness
import pytest
from harness import Raw, message, rss_kib, wait_for

CARD = {"mask": ["{ detect: [card], as: redact }"]}
HELLO = (message(b"R", b"\0\0\0\0") + message(b"S", b"server_version\x0015.0\0") +
         message(b"S", b"standard_conforming_strings\0on\0") +
         message(b"K", b"\0\0\0\1\0\0\0\2") + message(b"Z", b"I"))
CHUNK = 4 << 20


def drain(d, sql, slow=False):
    """Bytes of the answer, and by how much the worker grew meanwhile."""
    pid = d.children()["worker 0"]
    c = Raw(d.gate, timeout=60, rcvbuf=65536 if slow else 0)
    before = worst = rss_kib(pid)
    c.query(sql)
    got, tail, looked, began = 0, b"", 0.0, time.monotonic()
    while not tail.endswith(b"Z\0\0\0\5I"):
        part = c.s.recv(CHUNK)
        assert part
        got += len(part)
        tail = (tail + part[-6:])[-6:]
        if time.monotonic() - looked > 0.1:
            looked = time.monotonic()
            worst = max(worst, rss_kib(pid))
        if slow and time.monotonic() - began < 3:
            time.sleep(0.05)
    c.close()
    return got, max(worst, rss_kib(pid)) - before


def test_ten_million_rows_under_a_detector(gateway):
    d = gateway(workers=1, policy=CARD)
    got, grew = drain(d, "SELECT i, 'row number ' || i FROM generate_series(1, 10000000) i")
    assert got > 300_000_000
    assert grew < 40_000, grew


@pytest.mark.parametrize("masked", [False, True])
def test_field_of_a_gigabyte(gateway, masked):
    d = gateway(workers=1, policy=CARD if masked else {})
    got, grew = drain(d, "SELECT repeat('x', 1000000000)")
    assert got > 1_000_000_000
    assert grew < 40_000, grew
    assert (d.counters()["mask_value_cap"] > 0) == masked


def test_gigabyte_for_a_slow_reader(gateway):
    d = gateway(workers=1)
    got, grew = drain(d, "SELECT repeat('x', 1000000) FROM generate_series(1, 1000)", slow=True)
    assert got > 1_000_000_000
    assert grew < 40_000, grew


def stub_server():
    """Logs everybody in, without a thread for each."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    sel = selectors.DefaultSelector()
    sel.register(listener, selectors.EVENT_READ)

    def loop():
        while True:
            for key, _ in sel.select():
                if key.fileobj is listener:
                    sel.register(listener.accept()[0], selectors.EVENT_READ)
                elif data := key.fileobj.recv(65536):
                    key.fileobj.sendall(HELLO if data[4:6] == b"\0\3" else b"")
                else:
                    sel.unregister(key.fileobj)
                    key.fileobj.close()
    threading.Thread(target=loop, daemon=True).start()
    return listener.getsockname()[1]


def test_idle_sessions(gateway):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Two descriptors for each, here as in the worker.
    total = min(5000, (hard - 500) // 2)
    first = total // 5
    d = gateway(port=stub_server(), workers=1, journal="512MiB")
    pid = d.children()["worker 0"]
    conns = [Raw(d.gate) for _ in range(first)]
    time.sleep(3)
    before = private_kib(pid)
    conns += [Raw(d.gate) for _ in range(total - first)]
    time.sleep(4)
    per = (private_kib(pid) - before) * 1024 / (total - first)
    print(f"{per:.0f} bytes of memory for an idle session, of {total}")
    assert per < 2560, per
    assert len(d.ctl("session.list")) == total
    for c in conns:
        c.close()
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [], 60)


def private_kib(pid):
    """Without the journal, which is a mapping of a file."""
    with open(f"/proc/{pid}/status") as f:
        return int([line.split()[1] for line in f if line.startswith("RssAnon")][0])


def test_five_hundred_held(gateway):
    d = gateway(workers=1, policy={"commands": ["{ effect: ddl, do: approve }",
                                                "{ effect: any, do: allow }"]})
    conns = []
    for i in range(250):
        c = Raw(d.gate)
        c.query(f"CREATE TABLE held_{i} (a int)")
        conns.append(c)
    wait_for("the approvals", lambda: len(d.ctl("approval.list")) == 250, 30)
    before = rss_kib(d.children()["worker 0"]), rss_kib(d.process.pid)
    time.sleep(3)
    after = rss_kib(d.children()["worker 0"]), rss_kib(d.process.pid)
    assert after[0] - before[0] < 1024 and after[1] - before[1] < 1024, (before, after)
    for a in d.ctl("approval.list"):
        d.ctl("approval.deny", id=a["id"])
    for c in conns:
        assert any(k == b"E" for k, _ in c.until(b"Z"))
        c.close()
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [], 30)


def test_small_journal_on_disk_loses_nothing(gateway):
    d = gateway(workers=1, journal="4MiB", extra=", durability: disk")
    began = time.monotonic()
    done = []

    def client(k):
        c = Raw(d.gate, timeout=60)
        for i in range(100):
            c.query(f"SELECT 'client-{k}-{i}', repeat('x', 20000)")
            c.until(b"Z")
        c.close()
        done.append(k)
    threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f"{800 / (time.monotonic() - began):.0f} statements a second with durability: disk")
    assert len(done) == 8
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [])
    wait_for("the recordings", lambda: len(d.recordings()) == 8)

    def whole():
        text = d.record_text()
        return all(b"client-%d-%d'" % (k, i) in text for k in range(8) for i in range(100))
    wait_for("all that was said", whole, 20)
    for path in d.recordings():
        assert harness.verify(d, path).returncode == 0
