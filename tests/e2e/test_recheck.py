# SPDX-License-Identifier: MIT
"""Grants that the identity provider takes back: introspection while they last."""
import os
import subprocess
import tempfile
import time

import harness
import pytest
from harness import policy, reload_with, wait_for
from idp_stub import SECRET, Stub, respond, section
from test_ending import finished
from test_lease import WAITS, agent, ended_by, within


@pytest.fixture
def secret():
    path = tempfile.mkdtemp(prefix="tidegate-stub-")
    os.chmod(path, 0o755)
    with open(f"{path}/secret", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(SECRET)
    yield f"{path}/secret"
    os.unlink(f"{path}/secret")
    os.rmdir(path)


ACCESS = "{ approval: idp, scope: db.read, max: 5m }"


@pytest.fixture
def checked(daemon, pg, secret):
    def make(recheck="1s", tolerance="3s", ways="", access=ACCESS, opaque=True, **kw):
        stub = Stub(opaque=opaque)
        more = {"recheck": recheck, "recheck_tolerance": tolerance} if recheck else {}
        d = daemon(section(stub, secret, **more, **kw) + ways + policy(pg.port, access=access), workers=1)
        d.stub = stub
        return d
    return make


def session(d, pg):
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    return p


def rechecks(d):
    return d.ctl("grant.list")[0]["rechecks"]


@pytest.mark.parametrize("opaque", [True, False])
def test_taken_back(checked, pg, opaque):
    d = checked(opaque=opaque)
    p = session(d, pg)
    one, = wait_for("a good answer", lambda: [r for r in rechecks(d) if r["good"]])
    assert one["way"] == "idp" and not one["failing_since"] and not one["why"]
    d.stub.active = False
    calls = d.stub.calls["/introspect"]
    wait_for("the question", lambda: d.stub.calls["/introspect"] > calls)
    start = time.monotonic()
    out = p.stdout.readline()
    within(0.15, start)  # with polling for the question
    assert "has taken the grant back" in out and "57P01" in out, out
    ended_by(d, "idp_revoked")
    assert d.ctl("grant.list") == []
    assert harness.metric(d, 'tidegate_rechecks_total{answer="ended"}') == 1
    assert harness.metric(d, 'tidegate_rechecks_total{answer="active"}') >= 1


def test_a_scope_that_is_lost(checked, pg):
    d = checked()
    p = session(d, pg)
    d.stub.faults["/introspect"] = lambda s, c, f: respond(
        200, {**s.introspection(f), "scope": "db.write"})
    out = p.stdout.readline()
    assert "lost a word of its scope: db.read" in out, out
    ended_by(d, "idp_revoked")


TROUBLE = {
    "no answer": lambda s, c, f: None,
    "503": lambda s, c, f: respond(503, b"busy", "text/plain"),
    "jwt": lambda s, c, f: respond(400, {"error": "unsupported_token_type"}),
    "client": lambda s, c, f: respond(401, {"error": "invalid_client"}),
    "html": lambda s, c, f: respond(200, b"<html>active</html>", "text/html"),
    "neither": lambda s, c, f: respond(200, {"active": "true"}),
    "empty": lambda s, c, f: respond(200, {}),
    "redirect": lambda s, c, f: respond(302, b"", extra="location: http://127.0.0.1:9/\r\n"),
}


@pytest.mark.parametrize("what", TROUBLE)
def test_no_answer_for_too_long(checked, pg, what):
    d = checked(tolerance="2s")
    p = session(d, pg)
    d.stub.faults["/introspect"] = TROUBLE[what]
    since = wait_for("the failure", lambda: [r for r in rechecks(d) if r["failing_since"]])
    assert since[0]["why"]
    out = p.stdout.readline()
    assert "could not confirm the grant for" in out and "recheck_tolerance" in out, out
    ended_by(d, "recheck_failed")
    if what == "jwt":
        assert "does not introspect this kind of token" in d.log()


def test_down_for_less_than_is_tolerated(checked, pg):
    d = checked(tolerance="60s")
    p = session(d, pg)
    wait_for("a good answer", lambda: rechecks(d)[0]["good"])
    d.stub.down()
    wait_for("the failure", lambda: rechecks(d)[0]["failing_since"])
    state = wait_for("the state", lambda: [s for s in [d.ctl("status")["idp"]]
                                           if s["state"] == "down"])[0]
    assert state["issuer"] == d.stub.issuer and state["since"] and state["todo"]
    assert p.poll() is None
    # Told with the rest: which, since when, how many hang on it, until when, why, and what to do.
    told, = d.ctl("status")["rechecks_failing"]
    assert (told["way"], told["issuer"], told["grants"], told["sessions"]) == ("idp", d.stub.issuer, 1, 1), told
    assert told["since"] == rechecks(d)[0]["failing_since"] < told["ends"] and told["why"], told
    out = subprocess.run([f"{harness.BUILD}/tidegate", "-c", d.config_path, "status"], capture_output=True,
                         text=True).stdout
    assert f"idp at {d.stub.issuer}: 1 grants with 1 sessions NOT CONFIRMED since {told['since']}" in out, out
    assert "recheck_tolerance" in out and f"{d.stub.issuer}: NOT USABLE since " in out, out
    d.stub.up()
    wait_for("the answer", lambda: not rechecks(d)[0]["failing_since"], 30)
    assert "says that it holds" in d.log() and d.ctl("status")["rechecks_failing"] == []
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    p.communicate(timeout=10 * harness.SLOW)


def test_authd_and_the_daemon_may_be_replaced(checked, pg):
    d = checked(tolerance="60s")
    p = session(d, pg)
    wait_for("a good answer", lambda: rechecks(d)[0]["good"])
    os.kill(d.children()["authd"], 9)
    calls = d.stub.calls["/introspect"]
    wait_for("the next one", lambda: d.stub.calls["/introspect"] > calls, 30)
    d.ctl("daemon.upgrade", timeout=60)
    calls = d.stub.calls["/introspect"]
    wait_for("the next one", lambda: d.stub.calls["/introspect"] > calls, 30)
    assert p.poll() is None
    d.stub.active = False
    assert "has taken the grant back" in p.stdout.readline()


def test_an_earlier_end(checked, pg):
    d = checked()
    p = session(d, pg)
    d.stub.ttl = 4
    until = d.ctl("grant.list")[0]["until"]
    wait_for("the earlier end", lambda: d.ctl("grant.list")[0]["until"] < until)
    out = p.stdout.readline()
    assert "granted time is over" in out, out
    ended_by(d, "grant_expired")


def test_ways_have_their_own(checked, pg):
    ways = ("approvals:\n  one: { by: client_credentials, scope: db.read, recheck: 1s, then: two }\n"
            "  two: { by: client_credentials, scope: db.ddl }\n")
    d = checked(recheck=None, ways=ways, access="{ approval: one, max: 5m }")
    p = session(d, pg)
    assert [r["way"] for r in rechecks(d)] == ["one"]
    d.stub.active = False
    assert "has taken the grant back" in p.stdout.readline()


def test_a_way_that_said_yes_before_an_upgrade(checked, pg):
    """A person is asked after it, over the upgrade: the grant is rechecked all the same. The person has a
    name in userinfo only, and introspection is shown a token of its own."""
    ways = ("approvals:\n  one: { by: client_credentials, scope: db.read, recheck: 1s, then: two }\n"
            "  two: { by: ciba, scope: openid db.ddl, login_hint: '{user}', approvers: [alice], poll: 1s }\n")
    d = checked(recheck=None, ways=ways, access="{ approval: one, max: 5m }", introspection="bearer",
                introspection_scope="look", name_claim="preferred_username", name_from="userinfo")
    said = []

    def tokens(stub, conn, form):
        if not form["grant_type"].endswith(":ciba"):
            return respond(200, stub.token(form))
        if not said:
            return respond(400, {"error": "authorization_pending"})
        now = int(time.time())
        ids = {"iss": stub.issuer, "aud": "stub", "sub": "stub", "iat": now, "exp": now + 300}
        return respond(200, {**stub.token({"scope": "db.ddl"}), "id_token": stub.sign(ids, "JWT")})
    d.stub.faults["/token"] = tokens
    p = agent(d, WAITS, pg.port)
    wait_for("the person to be asked", lambda: d.stub.asked["/ciba"])
    assert d.stub.asked["/ciba"][0][1]["login_hint"] == "agent"
    d.ctl("daemon.upgrade", timeout=90)
    assert d.ctl("grant.list") == []
    said.append("yes")
    assert p.stdout.readline() == "in\n"
    grant, = d.ctl("grant.list")
    assert [r["way"] for r in grant["rechecks"]] == ["one"] and "alice" in grant["by"], grant
    wait_for("a good answer", lambda: rechecks(d)[0]["good"])
    assert {h["authorization"].split()[0] for h, _ in d.stub.asked["/introspect"]} == {"Bearer"}
    assert "look" in [form.get("scope") for _, form in d.stub.asked["/token"]]
    d.stub.active = False
    assert "has taken the grant back" in p.stdout.readline()


def test_nobody_is_asked_without_it(checked, pg):
    d = checked(recheck=None, opaque=False)
    p = session(d, pg)
    assert rechecks(d) == []
    time.sleep(1.5)
    assert d.stub.calls["/introspect"] == 0 and p.poll() is None
    # A reload cannot bring back a token that was not kept; new grants have theirs.
    reload_with(d, "allow_http: true", "allow_http: true\n  recheck: 1s")
    time.sleep(1.5)
    assert d.stub.calls["/introspect"] == 0
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    p.communicate(timeout=10 * harness.SLOW)
    p = session(d, pg)
    assert [r["way"] for r in rechecks(d)] == ["idp"]
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    p.communicate(timeout=10 * harness.SLOW)


def test_the_token_is_nowhere_else(checked, pg):
    d = checked()
    kept = []
    original = d.stub.token
    d.stub.token = lambda form: kept.append(original(form)) or kept[-1]
    p = session(d, pg)
    wait_for("a good answer", lambda: rechecks(d)[0]["good"])
    token = kept[0]["access_token"]
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    p.communicate(timeout=10 * harness.SLOW)
    finished(d)
    with open(f"{d.dir}/state/audit.jsonl") as f:
        assert token not in f.read()
    assert token not in d.log() and token.encode() not in d.record_text()
    assert token not in str(d.ctl("status"))
