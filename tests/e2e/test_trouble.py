# SPDX-License-Identifier: MIT
"""What goes wrong on a real host: kills, full disks, slow readers, broken peers."""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import harness
import psycopg2
import pytest
from harness import connect, policy, rss_kib, verify, wait_for, works


def test_daemon_killed_recordings_complete(gateway, pg):
    d = gateway(workers=1)
    c = connect(d, pg)
    cur = c.cursor()
    for i in range(200):
        cur.execute(f"SELECT 'row-{i:04}'")
    d.kill()
    with pytest.raises(psycopg2.Error):
        cur.execute("SELECT 1")
    d.start()
    wait_for("the recording to be completed",
             lambda: b"row-0199" in d.record_text() and b"worker_died" in d.record_text())
    text = d.record_text()
    for i in range(200):
        assert b"row-%04d" % i in text
    path = d.recordings()[0]
    assert subprocess.run(["zstd", "-qt", path]).returncode == 0
    done = verify(d, path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_daemon_killed_each_recording_is_completed_once(gateway, pg):
    """Of many workers, one of which may complete what the others left: each has its own."""
    d = gateway(workers=6)
    conns = [connect(d, pg) for _ in range(60)]
    for i, c in enumerate(conns):
        c.cursor().execute(f"SELECT 'before-{i:03}'")
    time.sleep(3)  # tails are in the files
    for i, c in enumerate(conns[:40]):
        c.cursor().execute(f"SELECT 'behind-{i:03}'")
    d.kill()
    d.start()
    wait_for("the recordings", lambda: d.record_text().count(b"worker_died") >= 60)
    wait_for("whole recordings", lambda: all(
        verify(d, p).returncode == 0 for p in d.recordings()))
    text = d.record_text()
    lost = [i for i in range(60) if b"before-%03d" % i not in text or
            (i < 40 and b"behind-%03d" % i not in text)]
    assert not lost, lost
    assert "a recording failed" not in d.log()


def test_who_says_nothing_leaves_no_recording(gateway, pg):
    d = gateway(workers=2)
    for i in range(40):  # some are gone before it is known who they are
        s = socket.create_connection(("127.0.0.1", d.gate))
        time.sleep(0.005 * (i % 4))
        s.close()
    late = socket.create_connection(("127.0.0.1", d.gate))
    silent = [socket.create_connection(("127.0.0.1", d.gate)) for _ in range(4)]
    wait_for("the others to end", lambda: len(d.ctl("session.list")) == 5)
    time.sleep(3)  # longer than what is idle stays in the journal
    late.sendall(harness.startup())
    wait_for("its recording", lambda: b"shop" in d.record_text())
    late.close()
    wait_for("its end", lambda: len(d.ctl("session.list")) == 4)
    os.kill(d.children()["worker 0"], 9)
    wait_for("its death to be noticed", lambda: d.ctl("status")["workers"][0]["restarts"])
    silent += [socket.create_connection(("127.0.0.1", d.gate)) for _ in range(8)]
    wait_for("them", lambda: len(d.ctl("session.list")) >= 8)
    d.kill()
    assert len(d.recordings()) > 1  # their files, which nobody has taken away yet
    d.start()
    wait_for("the files to be gone", lambda: len(d.recordings()) == 1)
    assert verify(d, d.recordings()[0]).returncode == 0
    for s in silent:
        s.close()


def listed(d):
    out = subprocess.run([f"{harness.BUILD}/tidegate", "-j", "recording", "list", "-d",
                          f"{d.dir}/recordings"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def end_sessions(d):
    """A statement that runs would be waited for at the end."""
    for s in d.ctl("session.list"):
        with contextlib.suppress(harness.Refused):
            d.ctl("session.kill", id=s["id"])


def test_who_is_refused_before_it_is_a_session_is_on_record(daemon, pg):
    d = daemon(policy(pg.port, target="limits: { sessions: 1 }\n"))
    first = d.psql_later(pg.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the first", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"])
    before = d.counters()["overload"]
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "closed the connection" in out or "reset by peer" in out, out
    row = wait_for("its recording", lambda: [r for r in listed(d) if r.get("reason") == "overload"])[0]
    assert (row["agent"], row["target"], row["protocol"]) == ("bot", "shop", "postgresql"), row
    path, = [p for p in d.recordings() if row["id"] in p]
    text = subprocess.run(["zstdcat", path], capture_output=True).stdout
    assert b'"refused":"overload"' in text and b'"comm":"psql"' in text, text
    assert f'"destination":"127.0.0.1:{pg.port}"'.encode() in text
    again = subprocess.run([f"{harness.BUILD}/tidegate", "recording", "verify", "--rerun", path],
                           capture_output=True, text=True)
    assert again.returncode == 0 and "the same again" in again.stdout, again
    # Of a flood some stand for all, and all are counted.
    code = ("import socket\nfor _ in range(300):\n    try:\n        s = socket.create_connection("
            "('127.0.0.1', %d)); s.recv(1)\n    except OSError: pass" % pg.port)
    began = time.monotonic()
    d.run(["/usr/bin/python3", "-c", code])
    seconds = time.monotonic() - began
    wait_for("all to be counted", lambda: d.counters()["overload"] >= before + 301)
    n = len([r for r in listed(d) if r.get("reason") == "overload"])
    assert 20 <= n <= 1 + 20 * (seconds + 2), (n, seconds)
    end_sessions(d)
    first.kill()


def test_a_statement_in_pieces_keeps_to_the_limit(gateway, pg):
    """What is held until the whole of it is there counts when it comes, not when it goes on."""
    d = gateway(target="limits: { bytes: 40000 }\n")
    c = harness.Raw(d.gate)
    pg.sql("DELETE FROM notes WHERE body LIKE 'piece%'", db="shop")
    text = harness.message(b"Q", b"INSERT INTO notes(body) VALUES ('piece" + b"x" * 60000 + b"')\0")
    for i in range(0, len(text), 12000):
        with contextlib.suppress(OSError):
            c.send(text[i:i + 12000])
        time.sleep(0.1)
    assert b"limits.bytes" in c.rest()
    c.close()
    assert pg.sql("SELECT count(*) FROM notes WHERE body LIKE 'piece%'", db="shop") == "0\n"


def test_a_flood_of_one_agent_hides_no_other(daemon, pg):
    gate = harness.free_port()
    d = daemon(policy(pg.port, target=f'limits: {{ sessions: 1 }}\nlisten: "127.0.0.1:{gate}"\n')
               .replace("targets:\n", "  other: { source: [127.0.0.1/32] }\ntargets:\n", 1)
               .replace("agents: [bot]", "agents: [bot, other]"))
    first = d.psql_later(pg.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the first", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"])
    code = ("import socket\nwhile True:\n    try:\n        s = socket.create_connection("
            "('127.0.0.1', %d)); s.recv(1)\n    except OSError: pass" % pg.port)
    flood = d.popen(["/usr/bin/python3", "-c", code])
    before = d.counters()["overload"]
    wait_for("the flood", lambda: d.counters()["overload"] > before + 100)
    for _ in range(15):
        with socket.socket() as s:
            s.connect(("127.0.0.1", gate))
            with contextlib.suppress(ConnectionResetError):
                s.recv(1)
        time.sleep(0.1)
    flood.kill()
    end_sessions(d)
    first.kill()
    wait_for("all of them", lambda: len([r for r in listed(d) if r.get("reason") == "overload"
                                         and r["agent"] == "other"]) == 15)
    for path in d.recordings():  # hundreds, and nothing new in them
        os.unlink(path)


def test_stopped_while_it_starts(gateway, pg):
    """Workers that were not up yet when the others were told end as well."""
    d = gateway(workers=4)
    for _ in range(3):
        d.stop_process()
        d.process = subprocess.Popen([f"{harness.BUILD}/tidegated", "-c", d.config_path],
                                     stderr=subprocess.PIPE, text=True)
        for line in d.process.stderr:
            if " is ready" in line:
                break
        began = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        d.process.communicate(timeout=40)
        assert time.monotonic() - began < 10


def test_worker_killed_recordings_complete(gateway, pg):
    d = gateway(workers=1)
    c = connect(d, pg)
    cur = c.cursor()
    cur.execute("SELECT 'before-the-kill'")
    os.kill(d.children()["worker 0"], 9)
    wait_for("the recording to be completed", lambda: b"worker_died" in d.record_text())
    assert b"before-the-kill" in d.record_text()


@pytest.mark.parametrize("name", ["keyd", "worker 0", "worker 1"])
def test_children_come_back(gateway, pg, name):
    d = gateway(workers=2)
    old = d.children()[name]
    os.kill(old, 9)
    wait_for("it to be back", lambda: d.children().get(name, old) != old, 5)
    wait_for("service", lambda: works(d, pg), 5)


def test_disk_full_ends_sessions(gateway, pg, tmp_path):
    full = str(tmp_path / "small")
    os.mkdir(full)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=750", "none", full], check=True)
    try:
        d = gateway(workers=1)
        d.head = d.head.replace(f"{d.dir}/recordings", full)
        d.write_config(policy(pg.port, target=f'listen: "127.0.0.1:{d.gate}"\n').replace(
            "bot: {", "bot: { source: [127.0.0.1/32],"))
        d.process.terminate()
        d.process.wait()
        d.start()
        with open(full + "/filler", "wb") as f:
            f.write(bytes(7 << 20))
        c = connect(d, pg)
        cur = c.cursor()
        with pytest.raises(psycopg2.Error):
            for _ in range(200):
                cur.execute("SELECT md5(i::text) || md5((i + 1)::text) FROM "
                            "generate_series(1, 20000) i")
                cur.fetchall()
        wait_for("the counter", lambda: d.counters()["record_failed"] >= 1)
        with pytest.raises(psycopg2.Error):
            connect(d, pg).cursor().execute("SELECT 1")
        os.unlink(full + "/filler")
        wait_for("service", lambda: works(d, pg), 15)
        d.stop()
    finally:
        subprocess.run(["umount", "-l", full], check=True)


def test_slow_reader_keeps_memory_flat(gateway, pg):
    d = gateway(workers=1)
    pid = d.children()["worker 0"]
    s = socket.create_connection(("127.0.0.1", d.gate))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    startup = b"\0\3\0\0user\0agent\0database\0shop\0\0"
    s.sendall(struct.pack(">I", len(startup) + 4) + startup)
    data = b""
    while not data.endswith(b"Z\0\0\0\5I"):
        data += s.recv(65536)
    before = rss_kib(pid)
    sql = b"SELECT repeat('x', 1000000) FROM generate_series(1, 200)\0"
    s.sendall(b"Q" + struct.pack(">I", len(sql) + 4) + sql)
    got, worst, began = 0, before, time.monotonic()
    while got < 200_000_000:
        part = s.recv(1 << 20)
        assert part
        got += len(part)
        if time.monotonic() - began < 1.0:
            time.sleep(0.05)
        worst = max(worst, rss_kib(pid))
    harness.assert_grew(worst - before, 40_000)


def test_reload_under_load(gateway, pg):
    d = gateway(workers=2)
    bench = subprocess.Popen(["pgbench", "-n", "-f", "/dev/stdin", "-c", "4", "-T", "4", "-h",
                              "127.0.0.1", "-p", str(d.gate), "-U", "agent", "shop"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    bench.stdin.write("SELECT count(*) FROM customers;\n")
    bench.stdin.close()
    reloads = 0
    while bench.poll() is None:
        d.ctl("policy.reload")
        reloads += 1
        time.sleep(0.05)
    out = bench.stdout.read()
    assert bench.returncode == 0, out
    assert "number of failed transactions: 0" in out and reloads > 20


@pytest.mark.parametrize("junk, reason", [
    (b"GET / HTTP/1.1\r\n\r\n", "proto"),
    (struct.pack(">I", 3), "proto"),
    (struct.pack(">I", 0x7fffffff) + b"\0\3\0\0", "proto"),
    (struct.pack(">II", 9, 196608) + b"x", "proto"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "proto"),
])
def test_malformed_startup(gateway, pg, junk, reason):
    d = gateway(workers=1)
    s = socket.create_connection(("127.0.0.1", d.gate))
    s.settimeout(10 * harness.SLOW)
    s.sendall(junk)
    while s.recv(4096):
        pass
    wait_for("the counter", lambda: any(v for k, v in d.counters().items()
                                        if k.startswith(reason)))
    assert works(d, pg)
    assert d.ctl("status")["workers"][0]["restarts"] == 0


def test_malformed_message_after_login(gateway, pg):
    d = gateway(workers=1)
    for message in (b"Q\0\0\0\2", b"~\0\0\0\4", b"P\xff\xff\xff\xff", b"B\0\0\0\6\0\0"):
        s = socket.create_connection(("127.0.0.1", d.gate))
        s.settimeout(10 * harness.SLOW)
        startup = b"\0\3\0\0user\0agent\0database\0shop\0\0"
        s.sendall(struct.pack(">I", len(startup) + 4) + startup)
        data = b""
        while not data.endswith(b"Z\0\0\0\5I"):
            data += s.recv(65536)
        s.sendall(message)
        s.shutdown(socket.SHUT_WR)
        while s.recv(4096):
            pass
    assert works(d, pg)
    assert d.ctl("status")["workers"][0]["restarts"] == 0


def test_upstream_down(daemon, pg):
    dead = harness.free_port()
    d = daemon(policy(dead))
    out = d.psql(dead, "-c", "SELECT 1")
    assert "cannot connect to the target: Connection refused" in out


def test_many_idle_sessions(gateway, pg):
    d = gateway(workers=1)
    pid = d.children()["worker 0"]
    conns = [connect(d, pg) for _ in range(20)]
    before = rss_kib(pid)
    conns += [connect(d, pg) for _ in range(200)]
    time.sleep(3)
    harness.assert_grew(rss_kib(pid) - before, 200 * 8)


def test_target_toggles(daemon, pg):
    d = daemon(policy(pg.port))
    with pytest.raises(harness.Refused):
        d.ctl("target.set", name="shop", mode="off")
    d.ctl("target.set", name="shop", mode="off", reason="incident 7")
    assert "3" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 3")
    assert d.ctl("status")["kernel"]["passed_off"] == 1
    assert d.ctl("status")["targets_off"][0]["off"]["reason"] == "incident 7"
    d.kill()
    d.start()
    assert d.ctl("target.list")[0]["mode"] == "off"
    d.ctl("target.set", name="shop", mode="block")
    assert "not permitted" in d.psql(pg.port, "-c", "SELECT 3").lower()
    d.ctl("target.set", name="shop", mode="reset")
    assert "3" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 3")
    d.ctl("target.set", name="shop", mode="off", reason="short", for_ms=500)
    wait_for("the end of it", lambda: d.ctl("target.list")[0]["mode"] == "steer", 5)


def test_break_glass_and_status(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    d.ctl("grant.create", agent="bot", target="shop", for_ms=60000, reason="on call")
    assert "5" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 5")
    assert "BREAK-GLASS" in d.log()
    assert d.ctl("grant.list")[0]["via"] == "break-glass"


def scraped(family, address):
    with socket.socket(family) as s:
        s.settimeout(10 * harness.SLOW)
        s.connect(address)
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()


def samples(text):
    """{name: {labels: value}} of an answer, which is what Prometheus reads and nothing else."""
    head, body = text.split("\r\n\r\n", 1)
    assert head.startswith("HTTP/1.0 200 ") and body.endswith("\n")
    out, told = {}, {"HELP": [], "TYPE": []}
    for line in body.splitlines():
        if m := re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line):
            told[m[1]].append(m[2])
            assert m[1] == "HELP" or m[3] in ("counter", "gauge"), line
            continue
        m = re.fullmatch(r'(\w+)(?:\{((?:\w+="[^"]*",?)+)\})? (\d+)', line)
        assert m, line
        assert m[2] not in out.setdefault(m[1], {}), line
        out[m[1]][m[2]] = int(m[3])
    for names in told.values():
        assert len(names) == len(set(names)) and set(out) <= set(names)
    return out


def labels(path, macro):
    """Of the list of X(NAME, "label", ...) that a header has."""
    with open(f"{harness.ROOT}/{path}") as f:
        text = f.read().split(f"#define {macro}(X)", 1)[1].split("\nenum ", 1)[0]
    return re.findall(r'X\(\w+,\s+"(\w+)"', text)


def labelled(got, name, label):
    return {re.fullmatch(f'{label}="(.*)"', k)[1]: v for k, v in got[name].items()}


def test_metrics(daemon, pg):
    """All that is counted, as `status` has it, and the same over both ways to it."""
    d = daemon(policy(pg.port, commands=["{ effect: read, do: allow }"]))
    port = harness.free_port()
    harness.reload_with(d, "bpf: auto", f'metrics_listen: "127.0.0.1:{port}", bpf: auto')
    assert "7" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 7")
    assert "policy" in d.psql(pg.port, "-c", "CREATE TABLE never (i int)")
    d.ctl("target.set", name="shop", mode="block", reason="to be counted")
    assert "not permitted" in d.psql(pg.port, "-c", "SELECT 8").lower()
    wait_for("no session", lambda: not d.ctl("session.list"))
    status = d.ctl("status")
    text = scraped(socket.AF_INET, ("127.0.0.1", port))
    got = samples(text)
    assert text == scraped(socket.AF_UNIX, f"{d.dir}/run/metrics.sock")
    assert [got[f"tidegate_{n}"] for n in ("connections_total", "sessions", "sessions_ended_total")
            ] == [{None: 2}, {None: 0}, {None: 2}]
    assert got["tidegate_target_sessions"] == {'target="shop",mode="block"': 0}
    reasons = labelled(got, "tidegate_reason_total", "reason")
    assert list(reasons) == labels("userspace/base/reason.h", "TG_REASONS")[1:]  # not "none"
    assert reasons == status["counters"]
    assert {k: v for k, v in reasons.items() if v} == {"no_rule": 1, "client_closed": 2}
    kernel = labelled(got, "tidegate_kernel_total", "what")
    assert list(kernel) == labels("include/tidegate_abi.h", "TG_KERNEL_COUNTERS")
    assert kernel == status["kernel"]
    assert kernel["steered"] == kernel["handed_over"] == 2
    assert kernel["denied_blocked"] == 1
    changes = labelled(got, "tidegate_kernel_changes_total", "what")
    assert list(changes) == labels("userspace/kern/kern_watch.h", "KERN_FAULTS")
    assert sum(changes.values()) == status["integrity"]["changes"]


def test_sigterm_lets_sessions_finish(gateway, pg):
    d = gateway()
    psql = subprocess.Popen(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(d.gate), "-U",
                             "agent", "-d", "shop", "-c", "SELECT pg_sleep(1.5), 'finished'"],
                            stdout=subprocess.PIPE, text=True)
    wait_for("the session", lambda: any(s["state"] == "run" for s in d.ctl("session.list")))
    time.sleep(0.3)
    d.process.terminate()
    assert "finished" in psql.communicate(timeout=10 * harness.SLOW)[0]
    assert d.process.wait(10 * harness.SLOW) == 0


def test_fewer_workers_lose_no_tail(gateway, pg):
    d = gateway(workers=3)
    conns = [connect(d, pg) for _ in range(12)]
    for i, c in enumerate(conns):
        c.cursor().execute(f"SELECT 'tail-{i:02}'")
    d.kill()
    d.head = d.head.replace("workers: 3", "workers: 1")
    with open(d.config_path) as f:
        text = f.read()
    with open(d.config_path, "w") as f:
        f.write(text.replace("workers: 3", "workers: 1"))
    d.start()
    wait_for("all recordings", lambda: d.record_text().count(b"worker_died") == 12, 15)
    text = d.record_text()
    assert all(b"tail-%02d" % i in text for i in range(12))
    d.process.terminate()
    assert d.process.wait(10 * harness.SLOW) == 0
    assert sorted(n for n in os.listdir(f"{d.dir}/state") if n.startswith("journal")) == [
        "journal-0"]


def test_durability_disk_syncs_before_each_command(gateway, pg):
    d = gateway(workers=1, extra=", durability: disk")
    cur = connect(d, pg).cursor()
    before = syncs(d)
    for i in range(20):
        cur.execute(f"SELECT {i}")
        assert cur.fetchone() == (i,)
    assert syncs(d) - before >= 20


def test_durability_disk_groups_commits(gateway, pg):
    d = gateway(workers=1, extra=", durability: disk")
    before = syncs(d)
    out = subprocess.run(["pgbench", "-n", "-f", "/dev/stdin", "-c", "8", "-t", "50", "-h",
                          "127.0.0.1", "-p", str(d.gate), "-U", "agent", "shop"],
                         input="SELECT 1;\n", text=True, capture_output=True)
    assert out.returncode == 0, out.stderr
    assert 50 <= syncs(d) - before < 420


def syncs(d):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{d.dir}/run/metrics.sock")
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b""
        while part := s.recv(65536):
            text += part
    return int(text.split(b"tidegate_syncs_total ")[-1].split()[0])


def test_reload_judges_prepared_statements_again(gateway, pg):
    d = gateway(workers=1)
    cur = connect(d, pg).cursor()
    cur.connection.autocommit = True
    cur.execute("CREATE TABLE IF NOT EXISTS reloaded (a int)")
    s = Raw(d.gate)
    assert s.ask(parse("w", "INSERT INTO reloaded VALUES (1)") + run("w") + SYNC).endswith(b"I")
    text = open(d.config_path).read()
    with open(d.config_path, "w") as f:
        f.write(text.replace("effect: any, do: allow", "effect: [read, session], do: allow"))
    d.ctl("policy.reload")
    out = s.ask(run("w") + SYNC)
    assert b"42501" in out and b"write on reloaded" in out
    assert pg.sql("SELECT count(*) FROM reloaded", db="shop").strip() == "1"


SYNC = b"S\0\0\0\4"


def message(kind, body):
    return kind + struct.pack(">I", len(body) + 4) + body


def parse(name, sql):
    return message(b"P", f"{name}\0{sql}\0".encode() + b"\0\0")


def run(name):
    return (message(b"B", b"\0" + name.encode() + b"\0" + b"\0\0\0\0\0\0") +
            message(b"E", b"\0\0\0\0\0"))


class Raw:
    """The protocol by hand."""

    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port))
        self.s.settimeout(10 * harness.SLOW)
        startup = b"\0\3\0\0user\0agent\0database\0shop\0\0"
        self.ask(struct.pack(">I", len(startup) + 4) + startup)

    def ask(self, data):
        """Everything up to the next ReadyForQuery."""
        self.s.sendall(data)
        out = b""
        while not (len(out) >= 6 and out[-6:-1] == b"Z\0\0\0\5"):
            part = self.s.recv(65536)
            assert part, out
            out += part
        return out


def test_an_approver_sees_the_parameters(gateway, pg):
    d = gateway(workers=1, policy={"commands": ["{ effect: write, do: approve }",
                                                "{ effect: any, do: allow }"]})
    s = Raw(d.gate)
    token = "ghp_" + "A1b2" * 9
    values = [b"it's me", None, token.encode()]
    bind = b"\0\0" + b"\0\0" + struct.pack(">H", 3)
    for v in values:
        bind += struct.pack(">i", -1) if v is None else struct.pack(">I", len(v)) + v
    bind += b"\0\0"
    s.s.sendall(parse("", "INSERT INTO notes (body) VALUES (concat($1::text, $2::text, $3::text))") +
                message(b"B", bind) + message(b"E", b"\0\0\0\0\0") + SYNC)
    a = d.approval()
    assert "$1 = 'it''s me', $2 = NULL, $3 = '" in a["text"] and token not in a["text"]
    d.ctl("approval.approve", id=a["id"])
    assert b"INSERT 0 1" in s.ask(b"")
    wait_for("the record", lambda: b'"parameters":"$1 = ' in d.record_text())
    assert token.encode() not in d.record_text()


def test_new_snapshots_do_not_mask_what_is_on_its_way(gateway, pg):
    """Catalog snapshots change while prepared statements are in flight."""
    d = gateway(workers=1, target="catalog: { user: tidegate_catalog, password_file: "
                "$DIR/catalog.password }\n",
                policy={"mask": ["{ column: customers.ssn, as: last4 }"]})
    other = connect(d, pg)
    other.autocommit = True
    s = Raw(d.gate)
    s.ask(parse("q", "SELECT name, ssn FROM customers WHERE id = 1") + run("q") + SYNC)
    for i in range(10):
        cur = other.cursor()
        cur.execute(f"CREATE TEMP TABLE t{i} (a int)")
        s.s.sendall((run("q") + SYNC) * 2000)
        cur.execute(f"SELECT * FROM t{i}")
        out = b""
        while out.count(b"Z\0\0\0\5") < 2000:
            out += s.s.recv(1 << 20)
        assert out.count(b"Ada Lovelace") == 2000, out.count(b"***")
        assert out.count(b"***-**-6789") == 2000 and b"123-45" not in out


def test_out_of_descriptors(gateway, pg):
    d = gateway(workers=1)
    d.kill()
    d.start(limit=48)
    pid = d.children()["worker 0"]
    with open(f"/proc/{pid}/limits") as f:
        if "Max open files            48 " not in f.read():
            pytest.skip("this host lets the daemon raise its limit again")
    conns = [socket.create_connection(("127.0.0.1", d.gate)) for _ in range(60)]
    wait_for("the counter", lambda: d.counters()["overload"] >= 1)
    before = ticks(pid)
    time.sleep(2)
    assert ticks(pid) - before < 40, "it spins while it waits"
    for c in conns:
        c.close()
    wait_for("service", lambda: works(d, pg), 10)


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def test_out_of_descriptors_a_reload_arrives(gateway, pg):
    limit = 192  # the parent itself needs more than a hundred
    d = gateway(workers=1)
    d.kill()
    d.start(limit=limit)
    pid = d.children()["worker 0"]
    with open(f"/proc/{pid}/limits") as f:
        if not re.search(rf"Max open files +{limit} ", f.read()):
            pytest.skip("this host lets the daemon raise its limit again")
    assert f"target shop allows 10000 sessions, but {limit} descriptors" in d.log()
    conns = [socket.create_connection(("127.0.0.1", d.gate)) for _ in range(limit + 16)]
    wait_for("the counter", lambda: d.counters()["overload"] >= 1)
    harness.reload_with(d, "effect: any, do: allow", "effect: [read, transaction], do: allow")
    time.sleep(0.5)
    assert d.children()["worker 0"] == pid, d.log()
    for c in conns:
        c.close()
    wait_for("service", lambda: works(d, pg), 10)
    assert harness.refused(connect(d, pg), "DROP TABLE customers")


def test_a_crowd_at_the_metrics_takes_no_descriptors(gateway, pg):
    d = gateway(workers=1)
    port = harness.free_port()
    with open(d.config_path) as f:
        text = f.read()
    with open(d.config_path, "w") as f:
        f.write(text.replace("workers:", f'metrics_listen: "127.0.0.1:{port}", workers:'))
    d.kill()
    d.start()
    before = len(os.listdir(f"/proc/{d.process.pid}/fd"))
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    time.sleep(0.5)
    assert len(os.listdir(f"/proc/{d.process.pid}/fd")) < before + 100
    assert syncs(d) >= 0  # the other listener has places of its own
    assert works(d, pg)
    for s in crowd:
        s.close()

    def served():
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                return s.recv(100).startswith(b"HTTP/1.0 200")
        except ConnectionError:
            return False
    wait_for("service", served)
