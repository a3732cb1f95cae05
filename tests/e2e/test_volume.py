# SPDX-License-Identifier: MIT
"""Much of everything: rows, bytes of one field, syncs."""
import threading
import time

import harness
import pytest
from harness import Raw, rss_kib, wait_for

CARD = {"mask": ["{ detect: [card], as: redact }"]}
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
    harness.assert_grew(grew, 40_000)


@pytest.mark.parametrize("masked", [False, True])
def test_field_of_a_gigabyte(gateway, masked):
    d = gateway(workers=1, policy=CARD if masked else {})
    got, grew = drain(d, "SELECT repeat('x', 1000000000)")
    assert got > 1_000_000_000
    harness.assert_grew(grew, 40_000)
    assert (d.counters()["mask_value_cap"] > 0) == masked


def test_gigabyte_for_a_slow_reader(gateway):
    d = gateway(workers=1)
    got, grew = drain(d, "SELECT repeat('x', 1000000) FROM generate_series(1, 1000)", slow=True)
    assert got > 1_000_000_000
    harness.assert_grew(grew, 40_000)


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
