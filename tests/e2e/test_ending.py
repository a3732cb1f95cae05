# SPDX-License-Identifier: MIT
"""What an approval leaves behind (receipts), and how access ends."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import harness
import pytest
from harness import BUILD, policy, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
APPROVED = ["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]


def verify(*args):
    out = subprocess.run([f"{BUILD}/tidegate", "-j", "recording", "verify", *args],
                         capture_output=True, text=True)
    return json.loads(out.stdout), out.returncode


def records(path, kind):
    out = subprocess.run([f"{BUILD}/tidegate", "recording", "export", path], capture_output=True,
                         text=True, check=True).stdout
    return [r for r in map(json.loads, out.splitlines()) if r["type"] == kind]


def receipts(path):
    """(record, body) of each receipt in a recording, the signature checked by OpenSSL's own tool."""
    out = []
    for r in records(path, "decision"):
        data = r["data"]
        if "receipt" not in data:
            continue
        key = f"{os.path.dirname(path)}/receipts-{data['receipt']['key']}.pub"
        body, sig = path + ".body", path + ".sig"
        with open(body, "w") as f:
            f.write(data["receipt"]["body"])
        with open(sig, "wb") as f:
            f.write(bytes.fromhex(data["receipt"]["sig"]))
        subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key,
                        "-sigfile", sig, "-in", body], check=True, capture_output=True)
        os.unlink(body)
        os.unlink(sig)
        out.append((data, json.loads(data["receipt"]["body"])))
    return out


def finished(d, n=1):
    wait_for("the sessions to be over", lambda: not d.ctl("session.list"))
    return wait_for("the recordings", lambda: len(d.recordings()) >= n and d.recordings())


# ---------------------------------------------------------------- receipts


def test_access_by_an_operator_has_a_receipt(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 1")
    a = d.approval()
    d.ctl("approval.approve", id=a["id"], reason="ticket 7")
    assert psql.communicate(timeout=15 * harness.SLOW)[0] == "1\n"
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 2") == "2\n"
    g = d.ctl("grant.list")[0]
    for path in finished(d, 2):
        (rec, body), = receipts(path)
        assert body["receipt"] == 1 and body["what"] == "access" and body["decision"] == "allow"
        assert body["via"] == "builtin" and body["approved_by"] == ["root (uid 0)"]
        assert body["detail"] == "ticket 7" and body["request"] == a["id"], body
        assert body["agent"] == "bot" and body["target"] == "shop" and body["user"] == "agent"
        assert body["grant"] == g["id"] == rec["grant"] and body["until"] == g["until"], (body, g)
    verdicts, rc = verify(*d.recordings())
    assert rc == 0 and all(v["receipts"]["good"] == 1 and not v["receipts"]["bad"]
                           for v in verdicts), verdicts
    assert {v["receipts"]["key"] for v in verdicts} == {d.ctl("status")["receipt_key"]}
    assert oct(os.stat(f"{d.dir}/state/receipts.key").st_mode & 0o7777) == "0o600"


def test_statements_have_receipts_of_their_own(daemon, pg):
    d = daemon(policy(pg.port, commands=APPROVED))
    psql = d.popen(["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "shop"],
                   stdin=subprocess.PIPE)
    psql.stdin.write("CREATE TABLE receipt_a (a int);\nCREATE TABLE receipt_b (a int);\n")
    psql.stdin.flush()
    a = d.approval()
    d.ctl("approval.approve", id=a["id"])
    b = wait_for("the second", lambda: [x for x in d.ctl("approval.list") if x["id"] != a["id"]])[0]
    d.ctl("approval.deny", id=b["id"], reason="not today")
    psql.stdin.close()
    psql.wait(15 * harness.SLOW)
    path, = finished(d)
    (_, yes), (_, no) = receipts(path)
    assert (yes["decision"], yes["statement_sha256"], yes["effect"]) == ("allow", a["digest"], "ddl")
    assert (no["decision"], no["statement_sha256"], no["reason"], no["detail"]) == (
        "deny", b["digest"], "approval_denied", "not today")
    assert yes["session"] in path and "grant" not in yes and "until" not in yes
    verdicts, rc = verify(path)
    assert rc == 0 and verdicts[0]["receipts"]["good"] == 2, verdicts


def test_extended_protocol_statements_verify(daemon, pg):
    """The digest of an execution covers its parameters, in the receipt as in the record."""
    d = daemon(policy(pg.port, commands=["{ effect: write, do: approve }",
                                         "{ effect: any, do: allow }"]))
    script = ("import sys; sys.path.insert(0, %r)\nimport harness, struct\n"
              "from harness import message\nr = harness.Raw(%d)\n"
              "r.send(message(b'P', b's\\0INSERT INTO notes (body) VALUES ($1)\\0' + b'\\0\\0'),"
              " message(b'B', b'\\0s\\0\\0\\0\\0\\x01' + struct.pack('>I', 5) + b'hello' + b'\\0\\0'),"
              " message(b'E', b'\\0' + b'\\0' * 4), message(b'S', b''))\n"
              "print(b''.join(k for k, _ in r.until(b'Z')))\n" % (HERE, pg.port))
    agent = d.popen(["/usr/bin/python3", "-c", script])
    a = wait_for("the question", lambda: [x for x in d.ctl("approval.list")
                                          if "hello" in (x["text"] or "")])[0]
    d.ctl("approval.approve", id=a["id"])
    assert "C" in agent.communicate(timeout=15 * harness.SLOW)[0]
    paths = finished(d)
    found = [b for p in paths for _, b in receipts(p) if b.get("request") == a["id"]]
    assert found and found[0]["statement_sha256"] == a["digest"]
    verdicts, rc = verify(*paths)
    assert rc == 0 and sum(v.get("receipts", {}).get("good", 0) for v in verdicts) >= 1, verdicts


def test_a_receipt_of_another_key_is_named(daemon, pg, tmp_path):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT 1")
    d.ctl("approval.approve", id=d.approval()["id"])
    psql.communicate(timeout=15 * harness.SLOW)
    path, = finished(d)
    other = str(tmp_path / "other.pub")
    subprocess.run("openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out " + other,
                   shell=True, check=True, capture_output=True)
    verdicts, rc = verify("--key", other, path)
    assert rc and "signed with another key" in json.dumps(verdicts), verdicts
    own, = glob.glob(f"{d.dir}/recordings/receipts-*.pub")
    assert verify("--key", own, path)[1] == 0
    # A key under the name of another is still another.
    shutil.copy(other, own)
    verdicts, rc = verify(path)
    assert rc and "signed with another key" in json.dumps(verdicts), verdicts


def test_keyd_is_started_again_while_it_should_sign(daemon, pg):
    """Held until it is back, and the same key signs."""
    d = daemon(policy(pg.port, access="builtin"))
    key = wait_for("the key", lambda: d.ctl("status")["receipt_key"])
    psql = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 1")
    a = d.approval()
    os.kill(d.children()["keyd"], signal.SIGKILL)
    d.ctl("approval.approve", id=a["id"])
    assert psql.communicate(timeout=15 * harness.SLOW)[0] == "1\n"
    path, = finished(d)
    (rec, _), = receipts(path)
    assert rec["receipt"]["key"] == key


def test_without_a_key_nothing_is_approved(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    wait_for("the key", lambda: d.ctl("status")["receipt_key"])
    d.stop_process()
    os.chmod(f"{d.dir}/state/receipts.key", 0o644)
    os.mkdir(d.cgroup) if d.cgroup and not os.path.exists(d.cgroup) else None
    d.start()
    psql = d.psql_later(pg.port, "-c", "SELECT 1")
    d.ctl("approval.approve", id=d.approval()["id"])
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "could not be signed" in out, out
    assert d.ctl("grant.list") == []
    assert "others may read or change it" in d.log()


def test_break_glass_has_a_receipt(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    d.ctl("grant.create", agent="bot", target="shop", for_ms=60000, reason="on fire")
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
    path, = finished(d)
    (_, body), = receipts(path)
    assert (body["what"], body["via"], body["detail"], body["scope"]) == (
        "grant", "break-glass", "on fire", "*"), body
    assert verify(path)[1] == 0


def test_a_grant_that_a_worker_knows_ends_like_any(daemon, pg):
    """The first session asks the parent, later ones do not: each has its receipt, all end."""
    d = daemon(policy(pg.port, access="builtin"), workers=1)
    g = d.ctl("grant.create", agent="bot", target="shop", for_ms=600000, reason="on fire")["id"]
    argv = ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
            "shop"]
    clients = []
    for n in range(1, 6):
        clients.append(d.popen(argv, stdin=subprocess.PIPE))
        wait_for("the session", lambda: len(d.ctl("session.list")) == n)
    wait_for("the parent to know", lambda: [s["grant"] for s in d.ctl("session.list")] == [g] * 5)
    assert harness.metric(d, "tidegate_held_total") == 1
    d.ctl("grant.revoke", id=g)
    wait_for("the sessions to be over", lambda: not d.ctl("session.list"), 1)
    for c in clients:
        out, _ = c.communicate("SELECT 40 + 2;\n")
        assert "42" not in out.split("\n"), out
    later = d.psql_later(pg.port, "-c", "SELECT 1")
    asked = d.approval()  # anew
    d.ctl("approval.deny", id=asked["id"])
    assert "denied" in later.communicate()[0]
    mine = [p for p in finished(d, 6) if receipts(p)[0][1]["what"] == "grant"]
    assert len(mine) == 5
    assert verify(*mine)[1] == 0


# ---------------------------------------------------------------- events

EVENTS = """idp:
  issuer: {issuer}
  allow_http: true
  timeout: 2s
  audience: https://db.example/es256
  resource: https://db.example/es256
  events: 127.0.0.1:{port}
  client: {{ id: basic, auth: client_secret_basic, secret_file: $DIR/secret }}
"""
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture(scope="module")
def idp():
    done = subprocess.run([f"{HERE}/idp/install.sh"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("npm cannot install the test identity provider")
    from idp_server import Idp
    server = Idp(done.stdout.strip())
    yield server
    server.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def told(daemon, pg, idp, monkeypatch):
    """A daemon that takes events, and the means to send it some."""
    original = harness.Daemon.write_config

    def write(self, text):
        with open(f"{self.dir}/secret", "w") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write("basic-secret")
        original(self, text)
    monkeypatch.setattr(harness.Daemon, "write_config", write)
    port = free_port()
    d = daemon(EVENTS.format(issuer=idp.issuer, port=port) +
               policy(pg.port, access="{ approval: idp, scope: db.read, max: 5m }"), workers=1,
               journal="64MiB")
    d.idp, d.events = idp, port
    return d


def stop(d, psql):
    for s in d.ctl("session.list"):
        d.ctl("session.kill", id=s["id"])
    psql.communicate(timeout=15 * harness.SLOW)


def token(d, claims=None, header=None, events=None, **more):
    body = {"iss": d.idp.issuer, "aud": "basic", "iat": int(time.time()), "jti": os.urandom(8).hex(),
            "sub_id": {"format": "iss_sub", "iss": d.idp.issuer, "sub": "basic"},
            "events": events or {CAEP + "session-revoked": {"event_timestamp": 1}}}
    body.update(more)
    body = {k: v for k, v in body.items() if v is not None}
    return d.idp.admin_call("/sign", {"header": {"typ": "secevent+jwt", **(header or {})},
                                      "claims": claims or body})["token"]


def logout(d, **more):
    return token(d, header={"typ": "logout+jwt"}, events={LOGOUT: {}},
                 **{"sub_id": None, "sub": "basic", **more})


def push(d, body, kind="application/secevent+jwt", method="POST"):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"http://127.0.0.1:{d.events}/events", data=body.encode(),
                                     headers={"content-type": kind}, method=method)
    try:
        with opener.open(request, timeout=15 * harness.SLOW) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def session(d, pg):
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"
                                     or s["grant"]])
    wait_for("the grant", lambda: d.ctl("grant.list"))
    time.sleep(0.3)
    return psql


@pytest.mark.parametrize("form", ["session-revoked", "logout"])
def test_the_provider_ends_a_session(told, pg, form):
    d = told
    psql = session(d, pg)
    sent = token(d) if form != "logout" else "logout_token=" + logout(d)
    kind = "application/secevent+jwt" if form != "logout" else "application/x-www-form-urlencoded"
    if form == "logout":  # the keys are known already: as in a daemon that runs for a while
        push(d, token(d, events={"https://schemas.openid.net/secevent/ssf/event-type/verification":
                                 {}}))
    start = time.monotonic()
    assert push(d, sent, kind)[0] == (200 if form == "logout" else 202)
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    took = time.monotonic() - start
    assert "identity provider ended it: " + form in out, out
    assert form != "logout" or took < 0.1 * harness.SLOW, took
    assert d.ctl("grant.list") == []
    assert wait_for("the count", lambda: d.counters()["idp_revoked"]) == 1
    path, = finished(d)
    assert records(path, "end")[0]["data"]["reason"] == "idp_revoked"
    # The same again is no other event: what was granted since stays.
    psql = session(d, pg)
    assert push(d, sent, kind)[0] in (200, 202)
    time.sleep(0.3)
    assert psql.poll() is None and len(d.ctl("grant.list")) == 1
    stop(d, psql)


def test_events_that_end_nothing(told, pg):
    d = told
    psql = session(d, pg)
    now = int(time.time())
    other = {"format": "iss_sub", "iss": d.idp.issuer, "sub": "somebody"}
    rows = [  # (token, status, words)
        (token(d, sub_id=other), 202, b""),
        (token(d, events={CAEP.replace("caep", "ssf") + "verification": {}}), 202, b""),
        (token(d, aud="another"), 400, b"audience"),
        (token(d, iss="http://evil.example"), 400, b"issuer"),
        (token(d, iat=now - 3600), 400, b"too old"),
        (token(d, iat=now + 3600), 400, b"future"),
        (token(d, iat=None), 400, b"iat"),
        (token(d, jti=None), 400, b"jti"),
        (token(d, exp=now - 600), 400, b"expired"),
        (token(d, nonce="x"), 400, b"nonce"),
        (token(d, header={"typ": "JWT"}), 400, b"type"),
        (token(d, header={"typ": "at+jwt"}), 400, b"type"),
        (token(d, header={"typ": None}), 400, b"type"),
        (token(d, header={"alg": "none"}), 400, b"algorithm"),
        (token(d, header={"kid": "nobody"}), 400, b"invalid_key"),
        (token(d, events={"urn:unknown": {}}), 400, b"no event"),
        (token(d, events={CAEP + "session-revoked": "x"}), 400, b"no object"),
        (token(d, events={CAEP + "session-revoked": {}, LOGOUT: {}}), 400, b"more than one"),
        (token(d, sub_id=None), 400, b"subject"),
        (token(d, sub_id={"format": "email", "email": "a@b"}), 400, b"subject"),
        (token(d, sub_id={"format": "iss_sub", "iss": "x", "sub": "basic"}), 400, b"subject"),
        (logout(d, sub=None), 400, b"neither"),
        (token(d)[:-4] + "AAAA", 400, b"signature"),
        ("x", 400, b"no signed"),
        ("x" * 21000, 413, b""),
    ]
    for sent, status, words in rows:
        got, answer = push(d, sent)
        assert got == status and words in answer, (got, answer, words)
        assert status == 202 or status == 413 or json.loads(answer)["err"]
    assert push(d, "", method="GET")[0] in (400, 405)
    assert push(d, token(d), kind="text/plain")[0] == 415
    assert psql.poll() is None and len(d.ctl("grant.list")) == 1
    stop(d, psql)


def test_those_who_hang_on_the_events_socket_do_not_keep_events_out(told, pg):
    d = told
    psql = session(d, pg)
    held = [socket.create_connection(("127.0.0.1", d.events)) for _ in range(40)]
    for s in held:
        s.sendall(b"POST / HTTP/1.1\r\nContent-Le")
    assert push(d, token(d))[0] == 202
    assert "identity provider ended it" in psql.communicate(timeout=15 * harness.SLOW)[0]
    for s in held:
        s.close()


def test_a_flood_of_wrong_events_does_not_fill_the_log(told, pg):
    d = told
    body = '{"auth_req_id":"x"}'
    for i in range(60):
        with socket.create_connection(("127.0.0.1", d.events)) as s:
            kind, text = ("json", body) if i % 2 else ("secevent+jwt", "a.b.c")
            s.sendall(f"POST / HTTP/1.1\r\nContent-Type: application/{kind}\r\nAuthorization: Bearer no\r\n"
                      f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
            assert s.recv(100)[9:12] in (b"401", b"400")
    assert 5 <= d.log().count(" was refused: ") <= 20, d.log()
    assert push(d, token(d))[0] == 202


def test_events_arrive_while_authd_is_started_again(told, pg):
    d = told
    psql = session(d, pg)
    os.kill(d.children()["authd"], signal.SIGKILL)
    assert push(d, token(d))[0] == 202
    assert "identity provider ended it" in psql.communicate(timeout=15 * harness.SLOW)[0]


def test_a_slow_provider_holds_up_nobody_else(daemon, pg, idp, monkeypatch):
    """One worker, one session whose statement waits for the provider: others go on at full speed."""
    original = harness.Daemon.write_config

    def write(self, text):
        with open(f"{self.dir}/secret", "w") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write("basic-secret")
        original(self, text)
    monkeypatch.setattr(harness.Daemon, "write_config", write)
    d = daemon(EVENTS.format(issuer=idp.issuer, port=free_port()) +
               "approvals:\n  ask: { by: client_credentials, scope: db.read }\n" +
               policy(pg.port, commands=["{ effect: ddl, do: approve, approval: ask }",
                                         "{ effect: any, do: allow }"]), workers=1)
    idp.faults({"path": "/token", "delay_ms": 1800 * harness.SLOW, "count": 1})
    slow = d.psql_later(pg.port, "-c", "CREATE TABLE by_slow_provider (a int)")
    d.approval()
    took = []
    while slow.poll() is None:
        start = time.monotonic()
        assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
        took.append(time.monotonic() - start)
    assert len(took) >= 3 and max(took) < 1 * harness.SLOW, took
    slow.communicate(timeout=20 * harness.SLOW)
    idp.faults()


def test_receipts_and_events_over_an_upgrade(told, pg):
    """A grant keeps its receipt and is still the provider's to end."""
    d = told
    psql = session(d, pg)
    d.ctl("daemon.upgrade", timeout=90)
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 3") == "3\n"
    for _ in range(3):  # whichever authd it is that takes them
        assert push(d, token(d))[0] == 202
    assert "identity provider ended it" in psql.communicate(timeout=15 * harness.SLOW)[0]
    assert d.ctl("grant.list") == []
    for path in finished(d, 2):
        (_, body), = receipts(path)
        assert body["evidence"][0]["sub"] == "basic" and body["via"] == "idp", body
        assert body["token_sha256"] == body["evidence"][0]["token_sha256"], body
    assert verify(*d.recordings())[1] == 0


STORM = """
import socket, sys
sys.path.insert(0, %r)
import harness
socks = []
for _ in range(%d):
    s = socket.create_connection(("127.0.0.1", %d))
    s.settimeout(60)
    s.sendall(harness.startup())
    socks.append(s)
print(sum(b"identity provider refused" in s.recv(4096) for s in socks), flush=True)
"""


def test_a_storm_of_equal_requests_asks_once(told, pg):
    """500 connections that want the same: one question, and its answer is everybody's."""
    d, n = told, 500
    d.psql(pg.port, "-c", "SELECT 1")  # discovery and keys are known
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    finished(d)
    before = d.idp.stats()
    d.idp.faults({"path": "/token", "delay_ms": 1900, "count": 1, "status": 400,
                  "body": {"error": "access_denied"}})
    agent = d.popen(["/usr/bin/python3", "-c", STORM % (HERE, n, pg.port)])
    a = d.approval()
    most = 0
    while [x for x in d.ctl("approval.list") if x["id"] == a["id"]]:
        most = max(most, len(d.ctl("session.list")))
        assert len(d.ctl("approval.list")) <= 1
    assert agent.communicate(timeout=60 * harness.SLOW)[0] == f"{n}\n"
    after = d.idp.stats()
    asked = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
    assert most > n / 2, most
    assert [v for k, v in asked.items() if "/token" in k] == [1], asked
    d.idp.faults()
