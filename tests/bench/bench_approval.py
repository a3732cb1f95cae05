# SPDX-License-Identifier: MIT
"""What each kind of approval adds: the row `approval` of bench.py."""
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import harness
import idp_stub

CONNECTS, STATEMENTS = 300, 150
# The server by two of its addresses: the agent needs approval for the one, and none for the other.
SHOP, FREE = "127.0.0.1", "::1"
# A client in the agent's cgroup: a line in, a connection or a statement, its time out.
CLIENT = """
import sys, time
sys.path.insert(0, %r)
from harness import Raw
now = time.monotonic_ns
r = None
for line in sys.stdin:
    began = now()
    if line.startswith("connect "):
        if r:
            r.close()
        began = now()
        r = Raw(%d, host=line.split()[1])
    else:
        r.query(line.strip())
        while r.next()[0] != b"Z":
            pass
    print(began, now(), flush=True)
"""


class Client:
    def __init__(self, port, join=None):
        here = os.path.dirname(os.path.abspath(harness.__file__))
        self.p = subprocess.Popen(["/usr/bin/python3", "-c", CLIENT % (here, port)], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
                                  preexec_fn=join)

    def begin(self, line):
        self.p.stdin.write(line + "\n")

    def end(self):
        return tuple(int(x) for x in self.p.stdout.readline().split())

    def us(self, line):
        self.begin(line)
        began, ended = self.end()
        return (ended - began) / 1e3

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def revoke(d):
    for g in d.ctl("grant.list"):
        d.ctl("grant.revoke", id=g["id"])


def round_trip(stub):
    """The question that authd asks, asked by us: also a connection of its own."""
    body = b"grant_type=client_credentials&scope=db.read"
    began = time.monotonic_ns()
    with socket.create_connection(("127.0.0.1", stub.port)) as s:
        s.sendall(b"POST /token HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        while s.recv(65536):
            pass
    return (time.monotonic_ns() - began) / 1e3


def low(values):
    """The tenth percentile: what it takes when nobody else is on the cores just then."""
    return round(statistics.quantiles(values, n=10)[0], 1)


# The other target, and its rule.
FREE_TARGET = """
  free: { address: "[%s]:%d", protocol: postgresql }
"""
FREE_RULE = """
  - agents: [bot]
    targets: [free]
    access: { approval: none }
    commands: [{ effect: any, do: allow }]
"""


def connects(pg, direct, access, head="", before=lambda d: None, each=lambda d: None):
    """Figures in us from connect() to ready: directly, without approval, and with. The last two in
    turns, as whoever comes second finds the cores warm; what approval adds is the median of the
    differences."""
    config = head + harness.policy(pg.port, access=access, extra_policy=FREE_RULE)
    config = config.replace("targets:\n", "targets:" + FREE_TARGET % (FREE, pg.port), 1)
    d = harness.Daemon(config, workers=1, journal="64MiB")
    try:
        client = Client(pg.port, d.join())
        before(d)
        client.us(f"connect {SHOP}")  # documents, keys
        rows = []
        for n in range(CONNECTS):
            each(d)
            took = {"direct": direct.us(f"connect {SHOP}")}
            for host in (FREE, SHOP) if n % 2 else (SHOP, FREE):
                took[host] = client.us(f"connect {host}")
            rows.append((took["direct"], took[FREE], took[SHOP]))
        client.close()
        return ([low(column) for column in zip(*rows)],
                round(statistics.median(c - b for _, b, c in rows), 1))
    finally:
        d.stop()


def statements(pg):
    """From an approver's word to the answer of the statement that waited for it."""
    d = harness.Daemon(harness.policy(pg.port, commands=[
        "{ effect: read, do: approve }", "{ effect: any, do: allow }"]), workers=1, journal="64MiB")
    try:
        client = Client(pg.port, d.join())
        client.us(f"connect {SHOP}")
        took = []
        for _ in range(STATEMENTS):
            client.begin("SELECT 1")
            a = harness.wait_for("the question", lambda: d.ctl("approval.list"), interval=0.001)[0]
            said = time.monotonic_ns()
            d.ctl("approval.approve", id=a["id"])
            took.append((client.end()[1] - said) / 1e3)
        client.close()
        return low(took)
    finally:
        d.stop()


def run(pg):
    stub, place = idp_stub.Stub(), tempfile.mkdtemp(prefix="tidegate-bench-")
    os.chmod(place, 0o755)
    with open(f"{place}/secret", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(idp_stub.SECRET)
    direct = Client(pg.port)
    try:
        (base, none, cached), added = connects(pg, direct, "builtin", before=lambda d: d.ctl(
            "grant.create", agent="bot", target="shop", for_ms=3600000, reason="benchmark"))
        trips = []

        def ask_anew(d):
            revoke(d)
            trips.append(round_trip(stub))
        (_, _, asked), more = connects(pg, direct, "{ approval: idp, scope: db.read, max: 5m }",
                                       head=idp_stub.section(stub, f"{place}/secret"), each=ask_anew)
        trip = round(statistics.median(trips), 1)
        return [{"row": "approval", "hop": "approval", "direct_us": base, "none_us": none,
                 "cached_us": cached, "cached_added_us": added,
                 "idp_us": asked, "idp_round_trip_us": trip,
                 "idp_added_us": round(more - trip, 1), "statement_us": statements(pg)}]
    finally:
        direct.close()
        shutil.rmtree(place)
