# SPDX-License-Identifier: MIT
"""Sessions past the TCP stack: everything else is as without."""
import os
import signal
import subprocess
import time

import harness
import pytest
from harness import wait_for

ON = "accelerate: on\n"
HERE = os.path.dirname(os.path.abspath(__file__))


def self_tested(d):
    """The accelerator's part of the status, once its self-test is over."""
    def state():
        a = d.ctl("status")["accelerator"]
        return a if a["self_test"] not in ("not run", "running") else None
    a = wait_for("the self-test", state, 30)
    assert a["self_test"] == "done", a["targets"]
    return a


@pytest.fixture
def fast(daemon, pg):
    def make(target=ON, **kw):
        d = daemon(harness.policy(pg.port, target=target, **kw))
        a = self_tested(d)
        assert a["targets"][0]["directions"] == "both", a["targets"]
        return d
    return make


def kernel(d):
    k = d.ctl("status")["kernel"]
    return k["accelerated"], k["accel_refused"], k["accel_ratcheted"]


def text_status(d):
    return subprocess.run([f"{harness.BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", "status"],
                          capture_output=True, text=True).stdout


def test_on_is_told_with_what_differs(fast):
    d = fast()
    a = self_tested(d)
    text = text_status(d)
    assert "accelerator on for shop, both" in text
    for row in a["differs"]:
        assert not row["integrity"]
        assert f"  {row['row']}: " in text


def test_auto_is_on_only_where_nobody_can_tell(daemon, pg):
    d = daemon(harness.policy(pg.port))
    a = self_tested(d)
    row = a["targets"][0]
    assert row["accelerate"] == "auto"
    if a["differs"]:
        assert row["directions"] == "off"
        assert a["differs"][0]["row"] in row["why"]
        assert row["why"] in text_status(d)
    else:
        assert row["directions"] == "both"
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
    assert (kernel(d)[0] == 0) == bool(a["differs"])


def test_off_runs_no_self_test(daemon, pg):
    d = daemon(harness.policy(pg.port, target="accelerate: off\n"))
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
    assert d.ctl("status")["accelerator"]["self_test"] == "not run"
    assert kernel(d) == (0, 0, 0)


def test_a_stop_does_not_wait_for_the_self_test(daemon, pg):
    d = daemon(harness.policy(pg.port, target=ON))
    if d.ctl("status")["accelerator"]["self_test"] != "running":
        pytest.skip("it was over too soon")
    began = time.monotonic()
    d.stop_process()
    assert d.process.returncode == 0
    assert time.monotonic() - began < 1.5 * harness.SLOW


def test_masked_denied_recorded(fast, pg):
    d = fast(mask=["{ column: customers.ssn, as: redact }"],
             commands=["{ effect: read, do: allow }", "{ effect: session, do: allow }"])
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT ssn FROM customers") == 3 * "***\n"
    assert "denied" in d.psql(pg.port, "-c", "DROP TABLE notes")
    assert kernel(d) == (2, 0, 0)
    assert b"DROP TABLE notes" in d.record_text()


def test_wide_both_ways(fast, pg):
    d = fast()
    lines = "".join(f"{i}\tline {i * 7919} {'x' * 80}\n" for i in range(100000))
    d.psql(pg.port, "-c", "CREATE TABLE wide_in (i int, t text)")
    assert "COPY 100000" in d.psql(pg.port, "-c", "COPY wide_in FROM STDIN", input=lines)
    assert d.psql(pg.port, "-c", "COPY (SELECT * FROM wide_in ORDER BY i) TO STDOUT") == lines
    d.psql(pg.port, "-c", "DROP TABLE wide_in")
    accelerated, refused, ratcheted = kernel(d)
    assert (accelerated, refused) == (4, 0)
    assert ratcheted >= 2  # the stream in and the stream out


def test_cancel(fast, pg):
    d = fast()
    p = d.psql_later(pg.port, "-c", "SELECT pg_sleep(30)")
    wait_for("the statement", lambda: "pg_sleep(30)" in pg.sql(
        "SELECT query FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"))
    began = time.monotonic()
    p.send_signal(signal.SIGINT)
    assert "canceling statement" in p.communicate(timeout=20)[0]
    assert time.monotonic() - began < 10


FLOOD = """
import os, select, sys, time
sys.path.insert(0, {here!r})
from harness import Raw, message
c = Raw({port})
c.query("CREATE TABLE held_one (i int)")
c.s.setblocking(False)
part, sent = message(b"Q", b"SELECT 1\\0") * 4096, 0
rest = b""
while select.select([], [c.s], [], 1.0)[1] and sent < 64 << 20:
    rest = rest or part
    n = c.s.send(rest)
    sent += n
    rest = rest[n:]
print(sent, flush=True)
assert sent < 64 << 20
c.s.setblocking(True)
c.s.settimeout(30)
if rest:
    c.s.sendall(rest)
    sent += len(rest)
want = sent // len(message(b"Q", b"SELECT 1\\0")) + 1
got = sum(1 for _ in range(want) if c.until(b"Z")[-1][0])
print("answers" if got == want else "lost", flush=True)
"""


def test_a_flood_behind_a_held_statement_waits(fast, pg):
    """A human decides slowly; meanwhile the agent is slowed down, not the host filled up."""
    d = fast(commands=["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"])
    p = d.popen(["/usr/bin/python3", "-c", FLOOD.format(here=HERE, port=pg.port)],
                env=dict(os.environ))
    request = d.approval()
    sent = int(p.stdout.readline())
    assert 0 < sent < 64 << 20
    d.ctl("approval.approve", id=request["id"], reason="test")
    out, _ = p.communicate(timeout=60)
    assert out.strip() == "answers", out
    assert kernel(d)[2] >= 1  # what the agent sends is back on TCP
    pg.sql("DROP TABLE held_one", db="shop")


def test_reload_concerns_new_connections(fast, pg):
    d = fast()
    d.psql(pg.port, "-c", "SELECT 1")
    d.write_config(harness.policy(pg.port, target="accelerate: off\n"))
    d.ctl("policy.reload")
    d.psql(pg.port, "-c", "SELECT 1")
    assert kernel(d) == (1, 0, 0)
    d.write_config(harness.policy(pg.port, target=ON + "accelerate_directions: requests\n"))
    d.ctl("policy.reload")
    assert d.ctl("status")["accelerator"]["targets"][0]["directions"] == "requests"
    d.psql(pg.port, "-c", "SELECT 1")
    assert kernel(d) == (2, 0, 0)
