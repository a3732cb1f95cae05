# SPDX-License-Identifier: MIT
"""Upgrades in place under load, many in a row, to what cannot take over, and killed."""
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import harness
import pytest
from names_server import a
from test_names import config, names, psql  # noqa: F401 (a fixture)
from harness import BUILD, ROOT, Refused, assert_grew, policy, refused, rss_kib, wait_for


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    binary = str(tmp_path_factory.mktemp("load") / "connect_load")
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", f"{ROOT}/tests/e2e/connect_load.c", "-o", binary],
                   check=True)
    return binary


@pytest.fixture
def binary(tmp_path):
    """A copy of the daemon that a test may replace, as a package does: by rename."""
    os.chmod(tmp_path, 0o755)
    path = str(tmp_path / "tidegated")
    shutil.copy(f"{BUILD}/tidegated", path)
    return path


def install(binary, content=None):
    if content is None:
        shutil.copy(f"{BUILD}/tidegated", binary + ".new")
    else:
        with open(binary + ".new", "wb") as f:
            f.write(content)
        os.chmod(binary + ".new", 0o755)
    os.rename(binary + ".new", binary)


def upgrade(d):
    return d.ctl("daemon.upgrade", timeout=90)


def gate_of(pg):
    gate = harness.free_port()
    return gate, policy(pg.port, target=f'listen: "127.0.0.1:{gate}"\n').replace(
        "bot: {", "bot: { source: [127.0.0.1/32],")


def old_workers(d):
    return [w for w in d.ctl("status")["workers"] if w["before"]]


class Server:
    def __init__(self, load):
        self.p = subprocess.Popen([load, "server"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.p.stdout.readline())
        self.counts = (0, 0, 0)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            self.counts = tuple(int(n) for n in line.split())

    def close(self):
        self.p.kill()
        self.p.wait()


def test_connects_over_upgrades(daemon, pg, load, binary):
    """Three upgrades while agents connect as fast as they can: none fails, none goes round."""
    server = Server(load)
    try:
        d = daemon(policy(server.port).replace("protocol: postgresql",
                                               "protocol: postgresql\n    accelerate: off"),
                   program=binary, journal="64MiB")
        agents = d.popen([load, "agent", str(server.port), "16"], stdin=subprocess.PIPE)
        wait_for("connects", lambda: server.counts[0] > 200, 30)
        for i in range(3):
            install(binary)
            before = server.counts[0]
            assert upgrade(d)["pid"] == d.process.pid
            # All by the new workers from here on.
            wait_for("the old workers to end", lambda: not old_workers(d), 30)
            after = server.counts[0]
            wait_for("connects after it", lambda: server.counts[0] > after + 200, 30)
            assert server.counts[0] > before
        out, _ = agents.communicate("", timeout=60)
        got = json.loads(out.splitlines()[-1])
        print(f"\n{got['ok'] / got['seconds']:.0f} connects/s, the longest took {got['longest']} s", got)
        assert got["failed"] == 0, got
        wait_for("the server's count", lambda: server.counts[0] >= got["ok"], 10)
        time.sleep(0.5)
        steered, unsteered, ended = server.counts
        assert unsteered == 0 and steered == got["ok"], (server.counts, got)
        kernel, counters = d.ctl("status")["kernel"], d.counters()
        assert kernel["denied_no_listener"] == 0 and kernel["steered"] >= got["ok"], kernel
        assert counters["not_steered"] == counters["worker_died"] == 0, counters
        # Each is on record, and whole.
        wait_for("the recordings", lambda: len(d.recordings()) == got["ok"], 20)
        some = d.recordings()[::max(1, len(d.recordings()) // 400)]
        wait_for("whole recordings", lambda: verify_all(some), 20)
    finally:
        server.close()


def verify_all(paths):
    return subprocess.run([f"{BUILD}/tidegate", "recording", "verify", *paths],
                          capture_output=True).returncode == 0


def test_what_cannot_take_over(daemon, pg, binary):
    """It is refused with words, and the running one goes on as if nothing had been."""
    gate, config = gate_of(pg)
    d = daemon(config, need_steering=False, program=binary)
    d.gate = gate
    conn = harness.connect(d)
    conn.cursor().execute("SELECT 1")
    children, generation = d.children(), d.ctl("policy.show")
    with open(f"{BUILD}/tidegated", "rb") as f:
        whole = f.read()
    cases = [
        (b"#!/bin/sh\nexit 1\n", "it is a script"),
        (b"", "Exec format"),
        (whole[:len(whole) // 10], "died|exited|error|Exec format|Input/output|cannot"),
        (b"not a program at all", "Exec format"),
        (None, "No such file"),
    ]
    if os.path.exists("/bin/false"):
        with open("/bin/false", "rb") as f:
            cases.append((f.read(), "exited with status 1"))
    for content, words in cases:
        if content is None:
            os.unlink(binary)
        else:
            install(binary, content)
        with pytest.raises(Refused, match=words):
            upgrade(d)
        assert d.children() == children and not old_workers(d)
        assert harness.works(d), content
        conn.cursor().execute("SELECT 1")
    assert d.ctl("policy.show") == generation and d.ctl("status")["upgrades"] == 0
    assert os.listdir(f"{d.dir}/state").count("journal-2") == 0
    install(binary)
    assert upgrade(d)["sessions"] == 1
    conn.cursor().execute("SELECT 1")


def test_other_versions(binary):
    """The check by itself: what the running one says must be a beginning of what is here."""
    def check(spec):
        with open("/dev/null") as null:
            return subprocess.run([binary, "--handover-check", spec], capture_output=True, text=True,
                                  stdin=null)
    for spec in ("", "2", "0 1:1 1:1 1:1", "1 9999:1 1:1 1:1", "1 3:0 1:1 1:1"):
        done = check(spec)
        assert done.returncode == 1 and "restart the daemon instead" in done.stderr, (spec, done)


def test_a_reload_in_between(daemon, pg, binary):
    """Old workers take a new policy too; the one in force goes over, not the one in the file."""
    gate, config = gate_of(pg)
    d = daemon(config, need_steering=False, program=binary)
    d.gate = gate
    conn = harness.connect(d)
    conn.cursor().execute("SELECT 1")
    digest = d.ctl("policy.show")["digest"]
    with open(d.config_path, "a") as f:
        f.write("nonsense: true\n")
    stop = threading.Event()
    failures = []

    def reloads():
        while not stop.is_set():
            try:
                d.ctl("policy.reload", timeout=60)
                failures.append("a wrong file was taken")
            except Refused:
                pass
            except Exception as e:  # noqa: BLE001
                failures.append(repr(e))
    t = threading.Thread(target=reloads)
    t.start()
    for _ in range(2):
        upgrade(d)
    stop.set()
    t.join()
    assert not failures, failures[:3]
    assert d.ctl("policy.show")["digest"] == digest
    d.write_config(config.replace("{ effect: any, do: allow }",
                                  "{ effect: ddl, do: deny }\n      - { effect: any, do: allow }"))
    d.ctl("policy.reload")
    assert old_workers(d)
    assert refused(conn, "CREATE TABLE never_over_upgrade (a int)")
    conn.rollback()
    assert d.ctl("session.list")[0]["worker"] in [w["id"] for w in old_workers(d)]
    upgrade(d)
    assert refused(conn, "CREATE TABLE never_over_upgrade (a int)")


@pytest.mark.parametrize("moment", [0, 0.2, 0.6, 1.0, 1.5, 2.0])
def test_killed(daemon, pg, binary, moment):
    """kill -9 at some moment of an upgrade: closed until the next start, and all is recorded."""
    d = daemon(policy(pg.port), program=binary)
    psql = d.popen(["psql", "-X", "-At", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
                    "shop"], stdin=subprocess.PIPE)
    psql.stdin.write("SELECT 'before-the-kill';\n")
    psql.stdin.flush()
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["commands"]])
    d.ctl("grant.create", agent="bot", target="shop", for_ms=600000, reason="test")
    children = d.children()
    d.process.send_signal(signal.SIGUSR2)
    time.sleep(moment)
    # The CLI's words say whether it was before or after; both are right.
    d.kill()
    children.update(d.children())
    wait_for("its processes to end",
             lambda: not [p for p in children.values() if os.path.exists(f"/proc/{p}")], 5)
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "refused" in out, out
    psql.communicate("SELECT 1;\n", timeout=20)
    d.start()
    assert d.psql(pg.port, "-At", "-c", "SELECT 40 + 2").strip() == "42"
    assert d.ctl("grant.list") == [] and d.ctl("status")["upgrades"] == 0
    wait_for("the recording", lambda: b"before-the-kill" in d.record_text())
    wait_for("the leftovers to end", lambda: len(d.ctl("status")["workers"]) == 2, 20)
    wait_for("whole recordings", lambda: verify_all(d.recordings()), 20)
    audit = open(f"{d.dir}/state/audit.jsonl").read()
    assert '"daemon.was_down"' in audit


def test_nothing_is_left(daemon, pg, binary):
    """Ten upgrades: memory, descriptors, journals, programs and maps."""
    gate, config = gate_of(pg)
    # Its self-test, after each start, has descriptors of its own for a while.
    config = config.replace("protocol: postgresql", "protocol: postgresql\n    accelerate: off")
    d = daemon(config, need_steering=False, program=binary)
    d.gate = gate
    conn = harness.connect(d)

    def measure():
        wait_for("old workers to end", lambda: len(old_workers(d)) <= 1, 30)
        wait_for("the old keyd to end", lambda: len(d.processes("keyd")) == 1, 20)
        time.sleep(1)
        pins = sum(len(f) for _, _, f in os.walk(f"/sys/fs/bpf/tidegate-{d.tag}"))
        return (len(os.listdir(f"/proc/{d.process.pid}/fd")), rss_kib(d.process.pid), pins,
                len([f for f in os.listdir(f"{d.dir}/state") if f.startswith("journal")]))
    seen = []
    for i in range(10):
        upgrade(d)
        conn.cursor().execute("SELECT 1")
        seen.append(measure())
    print(seen)
    # The first ones use slots of workers that were never used before.
    assert seen[-1][0] <= seen[2][0] and seen[-1][2:] == seen[2][2:], seen
    assert_grew(seen[-1][1] - seen[2][1], 4096)
    assert d.ctl("session.list")[0]["commands"] >= 10
    assert d.ctl("status")["upgrades"] == 10


def test_namespaces(daemon, pg, binary):
    """A namespace of an agent keeps its listener, and the session in it."""
    d = daemon(policy(pg.port), program=binary)
    script = ("ip link set lo up; psql -X -At -h 127.0.0.1 -p {0} -U agent -d shop -c "
              "\"SELECT 'first'\"; while read line; do psql -X -At -h 127.0.0.1 -p {0} -U agent -d "
              "shop -c \"$line\"; done").format(pg.port)
    p = d.popen(["unshare", "-n", "sh", "-c", script], stdin=subprocess.PIPE)
    wait_for("the namespace", lambda: d.ctl("status")["namespaces"])
    assert p.stdout.readline().strip() == "first"
    before = d.ctl("status")["namespaces"]
    for i in range(2):
        upgrade(d)
        assert d.ctl("status")["namespaces"] == before
        p.stdin.write(f"SELECT 'after-{i}'\n")
        p.stdin.flush()
        assert p.stdout.readline().strip() == f"after-{i}"
    p.communicate("", timeout=20)
    wait_for("the namespace to be let go", lambda: not d.ctl("status")["namespaces"], 10)


class Pdp(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(1)
        self.server.go.wait(60)
        text = json.dumps({"decision": True}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def test_a_decision_elsewhere(daemon, pg, binary):
    """Whom authd of before has asked may answer after the upgrade; nobody is asked twice."""
    pdp = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pdp)
    pdp.asked, pdp.go = [], threading.Event()
    threading.Thread(target=pdp.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{pdp.server_address[1]}/x"
    events = harness.free_port()
    config = ("idp:\n  issuer: http://127.0.0.1:9\n  allow_http: true\n"
              f"  events: '127.0.0.1:{events}'\n"
              "  client: { id: basic, auth: client_secret_basic, secret_file: $DIR/catalog.password }\n"
              f"approvals:\n  there: {{ by: authzen, url: '{url}', timeout: 50s }}\n")
    try:
        d = daemon(config + policy(pg.port, commands=[
            "{ effect: ddl, do: approve, approval: there }", "{ effect: any, do: allow }"]),
            program=binary)
        held = d.psql_later(pg.port, "-c", "CREATE TABLE decided_elsewhere (a int)")
        wait_for("it to be asked", lambda: pdp.asked)
        upgrade(d)
        assert len(d.processes("authd")) == 2
        # Where the provider's events arrive, the new one listens.
        with socket.create_connection(("127.0.0.1", events), 5) as s:
            s.settimeout(10)
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(64).startswith(b"HTTP/1.1 4")
        pdp.go.set()
        assert "CREATE TABLE" in held.communicate(timeout=30)[0]
        assert len(pdp.asked) == 1
        wait_for("the old authd to end", lambda: len(d.processes("authd")) == 1, 10)
        # The new one is there for what comes.
        assert "CREATE TABLE" in d.psql(pg.port, "-c", "CREATE TABLE decided_again (a int)")
        assert len(pdp.asked) == 2
    finally:
        pdp.go.set()
        pdp.shutdown()


def test_names_go_on(daemon, pg, names, tmp_path, binary):
    """Look-ups and connects by name while it is upgraded; what was learned is known at once."""
    names.zone["db.internal"] = [a("127.0.0.1", 30)]
    d = daemon(config(names, pg.port), program=binary)
    assert psql(d, tmp_path, "db.internal", pg.port) == "42\n", d.log()
    before, state = d.ctl("dns.list"), d.ctl("dns.show")
    stop, out = threading.Event(), []

    def go():
        while not stop.is_set():
            out.append(psql(d, tmp_path, "db.internal", pg.port))
    t = threading.Thread(target=go)
    t.start()
    try:
        for _ in range(2):
            upgrade(d)
            row = d.ctl("dns.list")[0]
            assert (row["name"], row["addresses"], row["since"]) == (
                before[0]["name"], before[0]["addresses"], before[0]["since"])
    finally:
        stop.set()
        t.join()
    assert out and set(out) == {"42\n"}, out
    assert psql(d, tmp_path, "db.internal", pg.port) == "42\n", d.log()
    assert d.ctl("dns.show")["questions"] > state["questions"]
    wait_for("the old ones to end", lambda: len(d.processes("named")) == 1, 40)
    assert d.counters()["not_steered"] == 0 and d.ctl("status")["kernel"]["denied_no_listener"] == 0
