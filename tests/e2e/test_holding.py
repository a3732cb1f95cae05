# SPDX-License-Identifier: MIT
"""What waits for an approval: kept alive, told, noticed when it goes, and asked for once."""
import grp
import os
import pwd
import re
import subprocess
import time

import harness
import pytest
from harness import Raw, message, policy, startup, wait_for
from idp_stub import Stub, respond, section
from test_ending import finished, receipts
from test_lease import agent
from test_recheck import ACCESS, secret  # noqa: F401

FULL = os.environ.get("TIDEGATE_TIER") == "full"
PEOPLE = "approvals:\n  boss: {{ by: ciba, scope: openid, login_hint: boss, poll: {poll}{more} }}\n"


def sockets_of(pid):
    """ss has the timers of a process's TCP sockets: (local port, peer port, keep-alive timer)."""
    out = subprocess.run(["ss", "-Htnpo", "state", "established"], capture_output=True, text=True).stdout
    found = []
    for line in out.splitlines():
        if f"pid={pid}," in line:
            ports = re.findall(r":(\d+)\s", line)
            found.append((int(ports[0]), int(ports[1]), re.search(r"timer:\((\w+),(\w+)", line)))
    return found


def test_both_legs_are_kept_alive(daemon, pg):
    """Held for hours: what lies between is reminded, and no timer of ours ends it."""
    d = daemon(policy(pg.port, commands=["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]),
               workers=1)
    p = agent(d, "r = Raw(int(sys.argv[1]))\nr.query('CREATE TABLE kept_alive (a int)')\n"
                 "print(r.until(b'Z'), flush=True)\n", pg.port)
    a = d.approval()

    def quiet():
        """What was sent last has to be acknowledged before the timer is that of keep-alive."""
        found = sockets_of(d.children()["worker 0"])
        return found if all(timer and timer[1] == "keepalive" for _, _, timer in found) else None

    legs = wait_for("keep-alive on both legs", quiet, 10)
    assert len(legs) == 2, legs
    for _, _, timer in legs:
        assert not timer[2].endswith("min") or int(re.match(r"\d+", timer[2])[0]) <= 1, timer
    d.ctl("approval.deny", id=a["id"])
    out = p.communicate(timeout=15 * harness.SLOW)[0]
    assert "waiting for approval " + a["id"] in out and "tidegate approval approve" in out, out


@pytest.mark.parametrize("kind", ["access", "statement"])
def test_held_for_longer_than_any_timer_of_ours(daemon, pg, kind):
    """Login has 60 s, connecting 10 s, an idle tail 2 s: none of them counts while a person is asked."""
    seconds = 75 if FULL else 12
    d = daemon(policy(pg.port, access="builtin" if kind == "access" else "none", commands=[
        "{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]), workers=1)
    p = agent(d, "r = Raw(int(sys.argv[1]), timeout=200)\nr.query('CREATE TEMP TABLE held_long (a int)')\n"
                 "print(r.until(b'Z'), flush=True)\n", pg.port)
    a = d.approval()
    time.sleep(seconds)
    assert d.ctl("session.list")[0]["state"] == "held" and p.poll() is None
    d.ctl("approval.approve", id=a["id"])
    if kind == "access":
        d.ctl("approval.approve", id=wait_for("the statement", lambda: [
            x for x in d.ctl("approval.list") if x["kind"] == "statement"])[0]["id"])
    assert "CREATE TABLE" in p.communicate(timeout=15 * harness.SLOW)[0]


def person(daemon, pg, secret, poll="1s", more="", commands=None):  # noqa: F811
    stub = Stub()
    stub.faults["/token"] = lambda s, c, f: respond(400, {"error": "authorization_pending"})
    d = daemon(section(stub, secret) + PEOPLE.format(poll=poll, more=more) + policy(
        pg.port, commands=commands or ["{ effect: ddl, do: approve, approval: boss }",
                                       "{ effect: any, do: allow }"]), workers=1)
    d.stub = stub
    return d


def held_ddl(d, pg):
    p = agent(d, "r = Raw(int(sys.argv[1]), timeout=200)\nr.query('CREATE TEMP TABLE x (a int)')\n"
                 "print(r.until(b'Z'), flush=True)\n", pg.port)
    wait_for("the question", lambda: d.stub.calls["/token"] >= 1)
    return p


def polls_in(d, seconds):
    before = d.stub.calls["/token"]
    time.sleep(seconds)
    return d.stub.calls["/token"] - before


def test_slow_down_is_obeyed(daemon, pg, secret):  # noqa: F811
    d = person(daemon, pg, secret)
    p = held_ddl(d, pg)
    assert polls_in(d, 5) >= 3
    d.stub.faults["/token"] = lambda s, c, f: respond(400, {"error": "slow_down"})
    polls_in(d, 2)  # from now on 5 s more each time (RFC 8628 section 3.5)
    assert polls_in(d, 5) <= 1
    assert p.poll() is None
    d.ctl("session.kill", id=d.ctl("session.list")[0]["id"])
    p.communicate(timeout=15 * harness.SLOW)


def test_a_provider_that_fails_while_a_person_is_asked_is_left_alone_more_and_more(
        daemon, pg, secret):  # noqa: F811
    d = person(daemon, pg, secret)
    p = held_ddl(d, pg)
    d.stub.faults["/token"] = lambda s, c, f: respond(503, b"", "text/plain")
    wait_for("the failure", lambda: d.ctl("status")["idp"]["state"] == "down")
    assert polls_in(d, 8) <= 4
    state = d.ctl("status")["idp"]
    assert state["failures"] >= 2 and state["issuer"] == d.stub.issuer and state["todo"], state
    assert p.poll() is None  # still held: the provider may come back
    del d.stub.faults["/token"]
    d.stub.faults["/token"] = lambda s, c, f: respond(400, {"error": "access_denied"})
    assert "said no" in p.communicate(timeout=40 * harness.SLOW)[0]


def test_a_person_is_not_asked_any_more_when_the_agent_is_gone(daemon, pg, secret):  # noqa: F811
    d = person(daemon, pg, secret)
    p = held_ddl(d, pg)
    p.kill()
    wait_for("the end", lambda: d.ctl("approval.list") == [] and d.ctl("session.list") == [])
    time.sleep(1.2)
    assert polls_in(d, 3) == 0


def test_thousands_wait_and_one_question_is_asked(gateway, pg, secret):  # noqa: F811
    """Connections of one agent for the same: they cost what a session costs, and one question."""
    n = 9000 if FULL else 1500
    port = harness.stub_server()
    stub = Stub()
    stub.faults["/token"] = lambda s, c, f: respond(400, {"error": "authorization_pending"})
    d = gateway(port=port, workers=1, journal="256MiB", policy={
        "access": "{ approval: boss, max: 5m }", "extra_policy":
        section(stub, secret) + PEOPLE.format(poll="1s", more="")})
    watched = [d.children()[name] for name in ("worker 0", "authd")] + [d.process.pid]
    batch = n // 3

    def wait_with(conns):
        want = len(conns) + batch
        while len(conns) < want:
            c = Raw(d.gate, login=False, timeout=120)
            c.send(startup())
            conns.append(c)
        # Not `session.list`: its answer is larger than what is measured.
        wait_for("all of them", lambda: harness.metric(d, "tidegate_held_total") == want, 120, 0.5)
    conns = []
    wait_with(conns)
    before = [harness.private_kib(pid) for pid in watched]
    wait_with(conns)
    wait_with(conns)
    after = [harness.private_kib(pid) for pid in watched]
    each = [(b - a) * 1024 // (2 * batch) for a, b in zip(before, after)]
    print(f"{each} bytes for a connection that waits, of {n}, in worker, authd and parent")
    harness.assert_grew(each[0], 9000)   # a session with its tail
    harness.assert_grew(each[1], 16)     # one question for all
    harness.assert_grew(each[2], 3500)   # a session, and that it waits
    assert stub.calls["/ciba"] == 1 and len(d.ctl("approval.list")) == 1
    time.sleep(3)
    for pid, kib in zip(watched, after):
        harness.assert_grew(harness.private_kib(pid) - kib, 1024)
    # The person says no: everybody is told, and nothing is left.
    stub.faults["/token"] = lambda s, c, f: respond(400, {"error": "access_denied"})
    told = [c.until(b"Z")[0] for c in conns]
    assert all(k == b"E" and b"said no" in body for k, body in told)
    wait_for("the end of all", lambda: d.ctl("session.list", timeout=60) == [], 60, 0.5)
    for c in conns:
        c.close()


def test_a_machine_is_asked_once_by_a_thousand(gateway, pg, secret):  # noqa: F811
    stub = Stub()
    stub.delay = 1
    d = gateway(port=harness.stub_server(), workers=2, journal="256MiB", policy={
        "access": ACCESS, "extra_policy": section(stub, secret)})
    conns = []
    for _ in range(1000 if FULL else 300):
        conns.append(Raw(d.gate, login=False, timeout=60))
        conns[-1].send(startup())
    for c in conns:
        c.until(b"Z")
    assert stub.calls["/token"] == 1 and len(d.ctl("grant.list")) == 1
    conns[0].send(message(b"X"))


def test_a_statement_in_a_transaction_is_held_for_30_seconds(daemon, pg):
    """The default, since it holds locks."""
    d = daemon(policy(pg.port, commands=["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]),
               workers=1)
    p = agent(d, "r = Raw(int(sys.argv[1]), timeout=60)\nr.query('BEGIN')\nr.until(b'Z')\n"
                 "t = time.monotonic()\nr.query('CREATE TABLE tx (a int)')\n"
                 "print(r.until(b'Z'), time.monotonic() - t, flush=True)\n", pg.port)
    a = d.approval()
    assert a["in_transaction"]
    out = p.communicate(timeout=60 * harness.SLOW)[0]
    assert "open transaction" in out and 29 < float(out.split()[-1]) < 30 + 5 * harness.SLOW, out


TWO = """
policy:
  - agents: [bot]
    targets: [shop]
    when: { exe: "*/psql" }
    access: { approval: builtin, max: 8h }
    commands: [{ effect: any, do: allow }]
  - agents: [bot]
    targets: [shop]
    when: { exe: "*/python*" }
    access: { approval: builtin%s }
    commands: [{ effect: any, do: allow }]
"""


@pytest.mark.parametrize("other", [", max: 8h, approvers: [daemon]", ", max: 8h, min_approvals: 2", ", max: 5m"])
def test_a_yes_to_one_program_is_none_to_another(daemon, pg, other):
    """Where other people, more of them, or a shorter time is what the policy says."""
    config = policy(pg.port).split("policy:")[0] + TWO % other
    d = daemon(config, workers=1)
    first = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 42")
    a = d.approval()
    second = agent(d, "print(Raw(int(sys.argv[1]), timeout=60).s, flush=True)\n", pg.port)
    b = wait_for("another question", lambda: [x for x in d.ctl("approval.list") if x["id"] != a["id"]])[0]
    d.ctl("approval.approve", id=a["id"])
    assert harness.answered(first.communicate(timeout=20 * harness.SLOW)[0])
    for _ in range(2):  # what the worker remembers of it is no yes either
        assert harness.answered(d.psql(pg.port, "-A", "-t", "-c", "SELECT 42"))
    assert second.poll() is None
    d.ctl("approval.deny", id=b["id"])
    second.communicate(timeout=20 * harness.SLOW)
    third = agent(d, "print(Raw(int(sys.argv[1]), timeout=60).s, flush=True)\n", pg.port)
    d.ctl("approval.deny", id=d.approval()["id"])  # nor is what it led to
    third.communicate(timeout=20 * harness.SLOW)
    assert harness.answered(d.psql(pg.port, "-A", "-t", "-c", "SELECT 42"))


def as_operator(d, user, *argv):
    """With the utility, as somebody of the group that may."""
    run = harness.as_user(user)
    return subprocess.run([f"{harness.BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", *argv],
                          preexec_fn=run, capture_output=True, text=True, timeout=20 * harness.SLOW)


def test_as_many_people_as_the_rule_wants(daemon, pg):
    """Two different ones of those who may; each is named in the receipt, and one no is enough."""
    group = grp.getgrgid(pwd.getpwnam("daemon").pw_gid).gr_name
    rules = [f"{{ effect: ddl, do: approve, approvers: [{group}], min_approvals: 2 }}",
             "{ effect: any, do: allow }"]
    d = daemon(policy(pg.port, commands=rules), workers=1)
    with open(d.config_path) as f:
        text = f.read()
    with open(d.config_path, "w") as f:
        f.write(text.replace("bpf: auto", f"admin_group: {group}, bpf: auto"))
    d.ctl("policy.reload")
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE by_two (a int)")
    a = d.approval()
    assert a["min_approvals"] == 2 and a["approvers"] == [group], a
    d.ctl("approval.approve", id=a["id"], reason="first")
    with pytest.raises(harness.Refused):
        d.ctl("approval.approve", id=a["id"], reason="and again")
    time.sleep(0.3)
    assert psql.poll() is None and len(d.approval()["approved_by"]) == 1
    done = as_operator(d, "nobody", "approval", "approve", a["id"])
    assert done.returncode != 0 and psql.poll() is None, done
    done = as_operator(d, "daemon", "approval", "approve", a["id"], "--reason", "change 7")
    assert done.returncode == 0, done
    assert "CREATE TABLE" in psql.communicate(timeout=20 * harness.SLOW)[0]
    path, = finished(d)
    body, = [b for _, b in receipts(path)]
    assert [x.split()[0] for x in body["approved_by"]] == ["root", "daemon"], body
    assert body["detail"] == "change 7" and body["request"] == a["id"], body
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE by_one (a int)")
    a = d.approval()
    d.ctl("approval.approve", id=a["id"])
    assert as_operator(d, "daemon", "approval", "deny", a["id"]).returncode == 0
    assert "approver said no" in psql.communicate(timeout=20 * harness.SLOW)[0]


def test_nobody_approves_what_his_own_process_waits_for(daemon, pg):
    """Whichever of the sessions that one answer serves was first."""
    group = grp.getgrgid(pwd.getpwnam("daemon").pw_gid).gr_name
    config = policy(pg.port, access="builtin")
    d = daemon(config, workers=1)
    with open(d.config_path) as f:
        text = f.read()
    with open(d.config_path, "w") as f:
        f.write(text.replace("bpf: auto", f"admin_group: {group}, bpf: auto"))
    d.ctl("policy.reload")
    waiting = []
    for user in "nobody", "daemon":
        def enter(user=user):
            d.join()()
            harness.as_user(user)()
        waiting.append(subprocess.Popen(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U",
                                         "agent", "-d", "shop", "-c", "SELECT 42"], preexec_fn=enter,
                                        cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        wait_for("the session", lambda: len([s for s in d.ctl("session.list") if s["state"] == "held"])
                 == len(waiting))
    a = d.approval()
    assert len(d.ctl("approval.list")) == 1
    done = as_operator(d, "daemon", "approval", "approve", a["id"])
    assert done.returncode != 0 and "nobody" in done.stderr, done
    waiting[1].kill()
    wait_for("it to be gone", lambda: len(d.ctl("session.list")) == 1)
    done = as_operator(d, "daemon", "approval", "approve", a["id"])
    assert done.returncode == 0, done
    assert harness.answered(waiting[0].communicate(timeout=20 * harness.SLOW)[0])
    waiting[1].communicate()


ASKS = ["{ effect: [read, transaction, session], do: allow }", "{ effect: any, do: approve }"]
PARSE = """
def parse(name, sql):
    return message(b'P', name + b'\\0' + sql + b'\\0\\0\\0')
def bind(portal, name, value):
    return message(b'B', portal + b'\\0' + name + b'\\0\\0\\0\\0\\1' + len(value).to_bytes(4, 'big') + value +
                   b'\\0\\0')
r = Raw(int(sys.argv[1]), timeout=60)
def ask(*parts):
    r.send(*parts)
    print(r.until(b'Z'), flush=True)
SYNC = message(b'S')
"""
# What an approver must see, and not only a name for it; @ stands for 77 and for 78.
UNSEEN = {
    "prepared": ("ask(parse(b'x', b'DELETE FROM notes WHERE id = @'), SYNC)\nr.query('EXECUTE x')\n",
                 ["EXECUTE x", "DELETE FROM notes WHERE id = 77"]),
    "named in SQL": ("ask(parse(b'x', b'DELETE FROM notes WHERE id = @'), SYNC)\n"
                     "r.send(parse(b'', b'EXECUTE x'), message(b'B', b'\\0' * 8), message(b'E', b'\\0' * 5), "
                     "SYNC)\n", ["EXECUTE x", "DELETE FROM notes WHERE id = 77"]),
    "cursor": ("ask(message(b'Q', b'BEGIN\\0'))\n"
               "ask(parse(b'', b'DELETE FROM notes WHERE id = $1 RETURNING id'), bind(b'c', b'', b'@'), SYNC)\n"
               "r.query('FETCH ALL FROM c')\n",
               ["FETCH ALL FROM c", "DELETE FROM notes WHERE id = $1", "$1 = '77'"]),
    "function": ("r.send(message(b'F', (871).to_bytes(4, 'big') + b'\\0\\0\\0\\1\\0\\0\\0\\x02@\\0\\0'))\n",
                 ["FunctionCall 871", "$1 = '77'"]),
    "quotes": ("""r.send(parse(b'', b'DELETE FROM notes WHERE body = $1'), bind(b'', b'', b"@', $2 = 'x"),
                  message(b'E', b'\\0' * 5), SYNC)\n""", ["$1 = '77'', $2 = ''x'"]),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_an_approver_sees_what_will_run(daemon, pg, name):
    code, words = UNSEEN[name]
    d = daemon(policy(pg.port, commands=ASKS), workers=1)
    seen = []
    for value in "77", "78":
        p = agent(d, PARSE + code.replace("@", value) + "print(r.until(b'Z'), flush=True)\n", pg.port)
        a = d.approval()
        for word in words:
            assert word.replace("77", value) in a["text"], a["text"]
        seen.append(a["digest"])
        d.ctl("approval.deny", id=a["id"])
        assert "42501" in p.communicate(timeout=20 * harness.SLOW)[0]
    assert seen[0] != seen[1]  # what was approved is this, and nothing else


def test_what_is_not_shown_is_said_to_be_there(daemon, pg):
    d = daemon(policy(pg.port, commands=ASKS), workers=1)
    n = 300
    sql = "INSERT INTO notes(body) VALUES " + ", ".join(f"(${i + 1})" for i in range(n))
    values = b"".join(len(v).to_bytes(4, "big") + v for v in (b"v%d" % i for i in range(n)))
    p = agent(d, PARSE + f"ask(parse(b'', {sql.encode()!r}), message(b'B', b'\\0\\0\\0\\0' + "
              f"({n}).to_bytes(2, 'big') + {values!r} + b'\\0\\0'), message(b'E', b'\\0' * 5), SYNC)\n",
              pg.port)
    a = d.approval()
    assert re.search(r", and \d\d\d more that are not shown", a["text"]), a["text"]
    d.ctl("approval.deny", id=a["id"])
    p.communicate(timeout=20 * harness.SLOW)
