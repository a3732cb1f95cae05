#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The OpenID Connect client against a real provider: what it grants, and all it refuses.

    test_ident.py PROBES INSTALLED_IDP [TEST...]

PROBES is the folder with oidc_probe and authd_probe.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from idp_server import Idp  # noqa: E402

PROBE, AUTHD = (os.path.join(sys.argv[1], name) for name in ("oidc_probe", "authd_probe"))
INSTALLED = sys.argv[2]
RS = "https://db.example/"
with open(PROBE, "rb") as f:
    SLOW = 4 if b"__asan_init" in f.read() else 1  # deadlines are those of an optimised build
DISCOVERY = "/.well-known/openid-configuration"
TESTS = []


def test(f):
    TESTS.append(f)
    return f


class Probe:
    def __init__(self, issuer, fmt="es256", env=None, **kv):
        args = {"issuer": issuer, "client": "basic", "secret": "basic-secret", "http": "1",
                "audience": RS + fmt, "resource": RS + fmt, "timeout": str(1000 * SLOW), "skew": "5000",
                **{k: str(v) for k, v in kv.items()}}
        self.proc = subprocess.Popen([PROBE] + [f"{k}={v}" for k, v in args.items() if v != ""],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                     env={**os.environ, **(env or {})})
        self.next_id = 0

    def send(self, line):
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()

    def ask(self, scope="db.read", agent="agent"):
        self.next_id += 1
        self.send(f"ask {self.next_id} {agent} {scope}")
        return self.next_id

    def read(self):
        line = self.proc.stdout.readline()
        assert line, "the probe is gone"
        return json.loads(line)

    def get(self, scope="db.read", agent="agent"):
        want = self.ask(scope, agent)
        r = self.read()
        assert r["id"] == want, r
        return r

    def state(self):
        self.send("state")
        return self.read()

    def close(self):
        """Every handle must have been closed and every byte freed: the probe checks."""
        if self.proc.poll() is None:
            self.send("quit")
        self.proc.stdin.close()
        rest = self.proc.stdout.read()
        code = self.proc.wait(timeout=20 * SLOW)
        assert code == 0, f"the probe ended with {code}"
        assert rest == "", rest

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        if kind is None:
            self.close()
        else:
            self.proc.kill()
            self.proc.wait()


def expect(r, reason, *parts):
    assert r.get("reason") == reason, f"wanted {reason}: {r}"
    for part in parts:
        assert part in r["detail"], f"`{part}` not in: {r['detail']}"
    for secret in ("basic-secret", "eyJ", "Basic "):
        assert secret not in json.dumps(r), f"a secret in {r}"


# ------------------------------------------------------------------ what is granted
@test
def grants_each_algorithm(idp):
    for fmt in ("rs256", "ps256", "es256", "eddsa"):
        with Probe(idp.issuer, fmt) as p:
            r = p.get()
            expect(r, "none")
            assert 290_000 < r["ttl_ms"] <= 300_000 and r["scope"] == "db.read", r
            assert r["subject"] == "basic" and len(r["token_digest"]) == 64, r
            s = p.state()
            assert s["state"] == "up" and s["keys"] == 4 and s["granted"] == 1, s


@test
def authenticates_in_each_way(idp):
    rows = [dict(client="post", secret="post-secret &=", auth="post"),
            dict(client="odd", secret="p@ss:w/ rd+%&=~", auth="basic")]
    for name, alg in (("es256", "ES256"), ("ps256", "PS256"), ("rs256", "RS256"),
                      ("eddsa", "EdDSA")):
        rows.append(dict(client=f"jwt-{name}", auth="jwt", alg=alg, kid=f"jwt-{name}-1",
                         key=idp.file(f"jwt-{name}.key.pem")))
    for row in rows:
        with Probe(idp.issuer, **row) as p:
            expect(p.get(), "none")
            expect(p.get("db.write"), "none")  # a second assertion: jti must differ
    with Probe(idp.issuer, assertion_audience=idp.issuer, **rows[2]) as p:
        expect(p.get(), "none")
    # The endpoint that is called: of an opaque token there are two.
    with Probe(idp.issuer, "opaque", assertion_audience="endpoint", **rows[2]) as p:
        expect(p.get(), "none")
        assert idp.admin_call("/audiences")[-2:] == [
            idp.issuer + "/token", idp.issuer + "/token/introspection"]
    with Probe(idp.issuer, "opaque", **rows[2]) as p:
        expect(p.get(), "none")
        assert idp.admin_call("/audiences")[-2:] == [idp.issuer + "/token"] * 2
    with Probe(idp.issuer, assertion_audience="https://other.example", **rows[2]) as p:
        expect(p.get(), "idp_denied", "invalid_client")


@test
def credential_that_comes_later(idp):
    with Probe(idp.issuer, credential="later") as p:
        expect(p.get(), "none")


@test
def documents_are_fetched_once(idp):
    before = idp.stats()
    with Probe(idp.issuer) as p:
        for i in range(5):
            expect(p.get(agent=f"agent{i}"), "none")
    after = idp.stats()
    assert after[DISCOVERY] - before.get(DISCOVERY, 0) == 1, after
    assert after["/jwks"] - before.get("/jwks", 0) == 1, after
    assert after["/token"] - before.get("/token", 0) == 5, after


@test
def equal_requests_are_asked_once(idp):
    before = idp.stats()["/token"]
    idp.faults({"path": "/token", "delay_ms": 300, "count": -1})
    with Probe(idp.issuer) as p:
        ids = [p.ask() for _ in range(20)] + [p.ask("db.write"), p.ask(agent="other")]
        got = [p.read() for _ in ids]
        for r in got:
            expect(r, "none")
        assert sorted(r["id"] for r in got) == ids
        assert idp.stats()["/token"] - before == 3
        assert p.state()["joined"] == 19


@test
def cancelled_requests_are_silent(idp):
    idp.faults({"path": "/token", "delay_ms": 300, "count": 1})
    with Probe(idp.issuer) as p:
        gone, stays = p.ask(), p.ask()
        p.send(f"cancel {gone}")
        r = p.read()
        assert r["id"] == stays, r
        expect(r, "none")
        alone = p.ask("db.write")
        p.send(f"cancel {alone}")
        expect(p.get(agent="next"), "none")
        s = p.state()
        assert s["waiting"] == 0 and s["failed"] == 0, s


@test
def ends_in_the_middle(idp):
    idp.faults({"path": "/token", "delay_ms": 500, "count": -1})
    with Probe(idp.issuer) as p:
        p.ask()
        p.ask("db.write")
        time.sleep(0.2)


# ------------------------------------------------------------------ what the provider denies
@test
def scopes_that_are_not_granted(idp):
    with Probe(idp.issuer) as p:
        expect(p.get("nonsense"), "idp_denied", "`nonsense`")
        expect(p.get("db.read nonsense"), "idp_denied", "`nonsense`")
        expect(p.get("db.rea"), "idp_denied", "`db.rea`")
        assert p.state()["state"] == "up"
    with Probe(idp.issuer, client="limited", secret="limited-secret") as p:
        expect(p.get("db.read"), "none")
        expect(p.get("db.ddl"), "idp_denied", "invalid_scope", "register the scope")


@test
def scope_that_the_answer_takes_back(idp):
    token = real_token(idp)
    idp.faults({"path": "/token", "status": 200, "count": 1,
                "body": {"access_token": token, "token_type": "bearer", "scope": "db.write"}})
    with Probe(idp.issuer) as p:
        expect(p.get(), "idp_denied", "less than asked")


@test
def details_that_name_the_agent(idp):
    try:
        with Probe(idp.issuer, details="agent_access") as p:
            expect(p.get(agent="agent-7"), "none")
            idp.admin_call("/config", {"banned": "agent-8"})
            expect(p.get(agent="agent-8"), "idp_denied", "invalid_authorization_details")
            expect(p.get(agent="agent-7"), "none")
            for details in ("drop", '[]', '[{"type":"agent_access","agent":"other"}]',
                            '[{"type":"agent_access","agent":["agent-7"]}]',
                            '[{"type":"other","agent":"agent-7"},{"type":"agent_access"}]'):
                idp.admin_call("/config", {"details": details})
                expect(p.get(agent="agent-7"), "idp_denied", "does not carry")
            # More than asked is fine.
            idp.admin_call("/config", {"details": '[{"type":"other"},{"type":"agent_access",'
                                                  '"agent":"agent-7","locations":["db"]}]'})
            expect(p.get(agent="agent-7"), "none")
        with Probe(idp.issuer, details="unknown_type") as p:
            expect(p.get(), "idp_denied", "invalid_authorization_details")
    finally:
        idp.admin_call("/config", {"banned": "", "details": ""})


@test
def clients_that_are_refused(idp):
    with Probe(idp.issuer, secret="wrong") as p:
        expect(p.get(), "idp_denied", "invalid_client", "check idp.client")
    with Probe(idp.issuer, resource="https://other.example/") as p:
        expect(p.get(), "idp_denied", "invalid_target")


@test
def error_bodies_of_all_kinds(idp):
    rows = [(400, "", "HTTP 400 without an error code"), (401, "<html>no</html>", "check idp.client"),
            (403, "[1]", "HTTP 403"), (403, '{"error":{"code":1}}', "HTTP 403"),
            (400, '{"error":"made_up","error_description":"x\\u001b[31m\\ny"}', "made_up: x\\x1b[31m\\ny")]
    with Probe(idp.issuer) as p:
        for status, body, part in rows:
            idp.faults({"path": "/token", "status": status, "body": body, "count": 1})
            expect(p.get(), "idp_denied", part)
        idp.faults()
        expect(p.get(), "none")


# ------------------------------------------------------------------ answers that are not believed
def real_token(idp, fmt="es256", scope="db.read"):
    import base64
    import urllib.parse
    import urllib.request
    request = urllib.request.Request(
        idp.issuer + "/token",
        data=urllib.parse.urlencode({"grant_type": "client_credentials", "scope": scope,
                                     "resource": RS + fmt}).encode(),
        headers={"Authorization": "Basic " + base64.b64encode(b"basic:basic-secret").decode()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as r:
        return json.load(r)["access_token"]


@test
def tokens_that_are_not_for_us(idp):
    with Probe(idp.issuer, audience=RS + "rs256") as p:
        expect(p.get(), "idp_bad_answer", "audience")
    with Probe(idp.issuer, algs="RS256") as p:
        expect(p.get(), "idp_bad_answer", "`ES256` is not allowed")
    token = real_token(idp)
    with Probe(idp.issuer, client="post", secret="x") as p:
        idp.faults({"path": "/token", "status": 200, "count": 1,
                    "body": {"access_token": token, "token_type": "Bearer"}})
        expect(p.get(), "idp_bad_answer", "another client")


@test
def opaque_tokens(idp):
    """Are worth what introspection says of them; without that endpoint nothing."""
    with Probe(idp.issuer, "opaque") as p:
        r = p.get()
        expect(r, "none")
        assert 290_000 < r["ttl_ms"] <= 300_000 and r["subject"] == "basic", r
        assert p.state()["introspection_calls"] == 1
    with idp.fetch(DISCOVERY) as r:
        document = json.load(r)
    del document["introspection_endpoint"]
    idp.faults({"path": DISCOVERY, "status": 200, "body": document})
    with Probe(idp.issuer, "opaque") as p:
        expect(p.get(), "idp_bad_answer", "no introspection endpoint")
    idp.faults()


@test
def garbage_from_the_token_endpoint(idp):
    token = real_token(idp)
    ok = {"access_token": token, "token_type": "Bearer"}
    rows = [("", "JSON"), ("<html>", "JSON"), ("{}", "no access_token"),
            ({"error": "invalid_scope"}, "invalid_scope"), ({**ok, "access_token": 7}, "no access_token"),
            ({"access_token": token}, "neither Bearer nor DPoP"),
            ({**ok, "token_type": "DPoP"}, "no proof was sent"),
            ({**ok, "expires_in": "soon"}, "expires_in"), ({**ok, "expires_in": -1}, "expires_in"),
            ({**ok, "expires_in": 0}, "no time left"),
            ('{"access_token":"a.b.c","access_token":"%s","token_type":"Bearer"}' % token, "twice"),
            ({**ok, "access_token": token[:-20] + "A" * 20}, "signature is wrong"),
            ({**ok, "x": "y" * 100_000}, "too large")]
    with Probe(idp.issuer) as p:
        for body, part in rows:
            idp.faults({"path": "/token", "status": 200, "body": body, "count": 1})
            expect(p.get(), "idp_bad_answer", part)
        for more in ({"expires_in": "60"}, {"expires_in": 60}, {"token_type": "BEARER"}, {"scope": None}):
            idp.faults({"path": "/token", "status": 200, "body": {**ok, **more}, "count": 1})
            r = p.get()
            expect(r, "none")
            assert ("expires_in" in more) == (r["ttl_ms"] == 60_000), r


@test
def huge_answers(idp):
    for path in (DISCOVERY, "/jwks", "/token"):
        idp.faults({"path": path, "status": 200, "fill": 200 << 20, "count": -1})
        with Probe(idp.issuer, timeout="10000") as p:
            t = time.monotonic()
            expect(p.get(), "idp_bad_answer", "too large")
            assert time.monotonic() - t < 5 * SLOW


@test
def redirects_are_not_followed(idp):
    for path in (DISCOVERY, "/jwks", "/token"):
        before = idp.stats().get("/elsewhere", 0)
        idp.faults({"path": path, "status": 302, "headers": {"location": idp.issuer + "/elsewhere"},
                    "count": -1})
        with Probe(idp.issuer) as p:
            expect(p.get(), "idp_bad_answer", "redirect (HTTP 302)")
        assert idp.stats().get("/elsewhere", 0) == before


@test
def discovery_documents_of_somebody_else(idp):
    good = {"issuer": idp.issuer, "token_endpoint": idp.issuer + "/token",
            "jwks_uri": idp.issuer + "/jwks"}
    rows = [({**good, "issuer": "https://evil.example"}, "of issuer `https://evil.example`"),
            ({**good, "issuer": idp.issuer + "/"}, "of issuer"),
            ({**good, "issuer": None}, "of issuer"),
            ({**good, "token_endpoint": "http://127.0.0.2:1/token"}, "not on the issuer's own origin"),
            ({**good, "token_endpoint": "http://db.example/token"}, "not https"),
            ({**good, "token_endpoint": idp.https + "/token"}, "not on the issuer's own origin"),
            ({**good, "jwks_uri": "file:///etc/passwd"}, "no usable `jwks_uri`"),
            ({**good, "jwks_uri": "http://u:p@127.0.0.1/"}, "no usable `jwks_uri`"),
            ({"issuer": idp.issuer}, "no usable `token_endpoint`"),
            ("nonsense", "no valid JSON"), ("[" * 50, "nested")]
    for body, part in rows:
        idp.faults({"path": DISCOVERY, "status": 200, "body": body, "count": -1})
        with Probe(idp.issuer) as p:
            expect(p.get(), "idp_bad_answer", part)
            s = p.state()
            assert s["state"] == "down" and s["todo"], s
    idp.faults({"path": DISCOVERY, "status": 404, "count": -1})
    with Probe(idp.issuer) as p:
        expect(p.get(), "idp_bad_answer", "HTTP 404")
    # The library builds its URLs from the Host header: another name is another issuer.
    idp.faults()
    with Probe(idp.issuer.replace("127.0.0.1", "localhost")) as p:
        expect(p.get(), "idp_bad_answer", "of issuer")


@test
def endpoints_on_a_configured_origin(idp):
    doc = {"issuer": idp.issuer, "token_endpoint": idp.https + "/token", "jwks_uri": idp.issuer + "/jwks"}
    idp.faults({"path": DISCOVERY, "status": 200, "body": doc, "count": -1})
    with Probe(idp.issuer, origin=idp.https, ca=idp.file("ca.crt.pem")) as p:
        expect(p.get(), "none")


# ------------------------------------------------------------------ keys
@test
def rotated_keys(idp):
    with Probe(idp.issuer, keys_min="60000") as p:
        expect(p.get(), "none")
        before = idp.stats()["/jwks"]
        idp.rotate(keep=False)
        expect(p.get(), "none")
        assert idp.stats()["/jwks"] == before + 1
        # Again at once: only one fetch in keys_min.
        idp.rotate(keep=True)
        expect(p.get(), "idp_bad_answer", "not in the provider's key set", "just before")
        assert idp.stats()["/jwks"] == before + 1
        assert "keys" in p.state()["todo"]
    with Probe(idp.issuer, keys_min="1") as p:
        expect(p.get(), "none")
        idp.rotate(keep=False)
        expect(p.get(), "none")
        time.sleep(0.05)
        idp.rotate(keep=False)
        # Many at once: all wait for the same fetch.
        before = idp.stats()["/jwks"]
        for i in range(8):
            p.ask(agent=f"a{i}")
        for _ in range(8):
            expect(p.read(), "none")
        assert idp.stats()["/jwks"] <= before + 2


@test
def keys_that_do_not_help(idp):
    with Probe(idp.issuer) as p:
        expect(p.get(), "none")
        idp.faults({"path": "/jwks", "status": 200, "body": {"keys": []}, "count": -1})
        idp.rotate(keep=False)
        expect(p.get(), "idp_bad_answer", "did not help")
    for body, part in (("x", "no valid JSON"), ({"keys": 1}, "no array"), ({"keys": []}, "not in the")):
        idp.faults({"path": "/jwks", "status": 200, "body": body, "count": -1})
        with Probe(idp.issuer) as p:
            expect(p.get(), "idp_bad_answer", part)


# ------------------------------------------------------------------ a provider in trouble
@test
def down_and_back_off(idp):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    dead = f"http://127.0.0.1:{s.getsockname()[1]}"
    with Probe(dead) as p:
        expect(p.get(), "idp_unreachable", "discovery")
        t = time.monotonic()
        for _ in range(50):
            expect(p.get(), "idp_unreachable", "next try in")
        assert time.monotonic() - t < 0.5 * SLOW
        state = p.state()
        assert state["state"] == "down" and state["fast_failed"] == 50, state
        assert state["discovery_calls"] == 1 and state["since"] and state["last_error"], state
        assert "firewall" in state["todo"], state
    s.close()


@test
def comes_back_after_an_outage(idp):
    idp.faults({"path": "/token", "status": 503, "count": 1})
    with Probe(idp.issuer) as p:
        expect(p.get(), "idp_unreachable", "HTTP 503")
        expect(p.get(), "idp_unreachable", "next try in")
        time.sleep(1.4)
        expect(p.get(), "none")
        assert p.state()["state"] == "up"
        for fault in ({"status": 429}, {"status": 400, "body": {"error": "temporarily_unavailable"}},
                      {"status": 503, "headers": {"retry-after": "2"}}):
            idp.faults({"path": "/token", "count": 1, **fault})
            expect(p.get(), "idp_unreachable")
            wait = p.state()["next_try_ms"]
            assert ("headers" in fault) == (wait > 1500), (fault, wait)
            time.sleep(wait / 1000 + 0.1)
            expect(p.get(), "none")


@test
def too_slow(idp):
    for path in (DISCOVERY, "/jwks", "/token"):
        idp.faults({"path": path, "delay_ms": 3000, "count": 1})
        with Probe(idp.issuer, timeout="400") as p:
            t = time.monotonic()
            expect(p.get(), "idp_timeout")
            assert time.monotonic() - t < 1.5 * SLOW
    # One byte now and then is no answer either.
    idp.faults({"path": "/token", "status": 200, "drip_ms": 50, "count": 1})
    with Probe(idp.issuer, timeout="600") as p:
        expect(p.get(), "idp_timeout")


@test
def credential_that_never_comes(idp):
    with Probe(idp.issuer, credential="never", timeout="200") as p:
        expect(p.get(), "idp_timeout", "credential")
    with Probe(idp.issuer, credential="error") as p:
        expect(p.get(), "internal", "Permission denied")


@test
def cut_off(idp):
    for path in (DISCOVERY, "/jwks", "/token"):
        idp.faults({"path": path, "drop": True, "count": -1})
        with Probe(idp.issuer) as p:
            expect(p.get(), "idp_unreachable")


@test
def no_http_at_all(idp):
    def serve(sock):
        while True:
            try:
                c, _ = sock.accept()
            except OSError:
                return
            c.sendall(b"\x00\xffSSH-2.0-not http at all\r\n\r\n")
            c.close()
    sock = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
    with Probe(f"http://127.0.0.1:{sock.getsockname()[1]}") as p:
        r = p.get()
        assert r["reason"] in ("idp_bad_answer", "idp_unreachable"), r
    sock.close()


# ------------------------------------------------------------------ transport
@test
def tls_and_whom_it_trusts(idp):
    tls = Idp(INSTALLED, OP_TLS="1")
    try:
        with Probe(tls.issuer, http="0", ca=tls.file("ca.crt.pem")) as p:
            expect(p.get(), "none")
        with Probe(tls.issuer, http="0", ca=tls.file("other-ca.crt.pem")) as p:
            expect(p.get(), "idp_unreachable", "certificate")
            assert "idp.ca_file" in p.state()["todo"]
        with Probe(tls.issuer, http="0") as p:
            expect(p.get(), "idp_unreachable", "certificate")
        # The certificate names an address, not this name.
        with Probe(tls.issuer.replace("127.0.0.1", "localhost"), http="0",
                   ca=tls.file("ca.crt.pem")) as p:
            expect(p.get(), "idp_unreachable")
            assert "idp.ca_file" in p.state()["todo"]
        # TLS to a plain port.
        with Probe(idp.http.replace("http:", "https:"), http="0") as p:
            expect(p.get(), "idp_unreachable")
    finally:
        tls.close()


@test
def proxies_of_the_environment(idp):
    env = {k: "http://127.0.0.1:1" for k in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY")}
    with Probe(idp.issuer, env=env) as p:
        expect(p.get(), "none")


@test
def configurations_that_are_refused(idp):
    rows = [dict(issuer="http://192.0.2.1"), dict(issuer=idp.issuer, http="0"), dict(issuer="ftp://x"),
            dict(issuer="nonsense"), dict(issuer="https://u:p@x.example"), dict(issuer="https://x.example/#f"),
            dict(issuer="https://x.example/?q"), dict(issuer=idp.issuer, algs="none"),
            dict(issuer=idp.issuer, algs="HS256"), dict(issuer=idp.issuer, ca="/nonexistent"),
            dict(issuer=idp.issuer, client=" ")]
    for row in rows[:-1]:
        p = Probe(**row)
        out, _ = p.proc.communicate()
        assert p.proc.returncode == 1 and "error" in json.loads(out), (row, out)
    with Probe(idp.issuer) as p:
        p.send('ask 7 a b"c')
        r = p.read()
        assert r["id"] == 7 and r["error"], r


# ------------------------------------------------------------------ the processes around it
class Daemon(Probe):
    """A real authd and a real keyd, sandboxed, with their parent played by authd_probe."""

    def __init__(self, idp, **kv):
        self.idp, self.next_id = idp, 0
        self.dir = tempfile.mkdtemp(prefix="tidegate-authd-")
        os.chmod(self.dir, 0o711)
        self.write("secret", "basic-secret\n")
        self.write("key.pem", open(idp.file("jwt-es256.key.pem"), encoding="utf-8").read())
        self.proc = subprocess.Popen([AUTHD, self.config(**kv)], stdin=subprocess.PIPE, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert {self.read()["event"], self.read()["event"]} == {"authd ready", "keyd ready"}

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(text)
        return path

    def config(self, name="a.yaml", issuer=None, jwt=False, idp=True, more="", timeout="2s", client=None):
        client = client or (f"id: jwt-es256, auth: private_key_jwt, key_file: {self.dir}/key.pem, "
                  "algorithm: ES256, key_id: jwt-es256-1" if jwt else
                  f"id: basic, auth: client_secret_basic, secret_file: {self.dir}/secret")
        section = (f"idp:\n  issuer: {issuer or self.idp.issuer}\n  allow_http: true\n"
                   f"  client: {{ {client} }}\n  audience: {RS}es256\n  resource: {RS}es256\n"
                   f"  timeout: {timeout}\n{more}") if idp else ""
        return self.write(name, section + "agents: { a: { uid: [1000] } }\n"
                          "targets: { t: { address: '127.0.0.1:5432', protocol: postgresql } }\n"
                          "policy:\n  - agents: [a]\n    targets: [t]\n"
                          "    access: { approval: none }\n"
                          "    commands: [{ effect: any, do: allow }]\n")

    def close(self):
        self.proc.stdin.close()
        assert self.proc.stdout.read() == "", "something was left to say"
        assert self.proc.wait(timeout=20 * SLOW) == 0
        subprocess.run(["rm", "-rf", self.dir], check=True)


@test
def processes_secret_and_key(idp):
    for jwt in (False, True):
        with Daemon(idp, jwt=jwt) as d:
            for scope in ("db.read", "db.write"):
                r = d.get(scope)
                expect(r, "none")
                assert r["subject"] == ("jwt-es256" if jwt else "basic") and r["ttl_ms"], r
            expect(d.get("nonsense"), "idp_denied")
            s = d.state()
            assert s["state"] == "up" and s["granted"] == 2, s


@test
def processes_resolve_names_in_the_sandbox(idp):
    named = idp.issuer.replace("127.0.0.1", "localhost")
    doc = {"issuer": named, "token_endpoint": named + "/token", "jwks_uri": named + "/jwks"}
    idp.faults({"path": DISCOVERY, "status": 200, "body": doc, "count": -1})
    with Daemon(idp, issuer=named) as d:
        # All the way to the token, whose issuer is the other spelling.
        expect(d.get(), "idp_bad_answer", "the token's issuer is `" + idp.issuer)


@test
def processes_over_tls(idp):
    tls = Idp(INSTALLED, OP_TLS="1")
    try:
        os.chmod(tls.dir, 0o755)
        with Daemon(tls, more=f"  ca_file: {tls.file('ca.crt.pem')}\n") as d:
            expect(d.get(), "none")
        with Daemon(tls) as d:
            expect(d.get(), "idp_unreachable", "certificate")
    finally:
        tls.close()


@test
def processes_keyd_dies(idp):
    with Daemon(idp) as d:
        d.send("keyd stop")
        assert d.read() == {"event": "keyd gone", "status": 9}
        want = d.ask()
        time.sleep(0.4)
        d.send("keyd start")
        got = [d.read(), d.read()]
        assert {"event": "keyd ready", "status": 0} in got, got
        r = next(x for x in got if "id" in x)
        assert r["id"] == want
        expect(r, "none")
    with Daemon(idp, timeout="500ms") as d:
        d.send("keyd stop")
        d.read()
        expect(d.get(), "idp_timeout", "credential")


@test
def processes_cancel(idp):
    idp.faults({"path": "/token", "delay_ms": 300, "count": -1})
    with Daemon(idp) as d:
        gone = d.ask()
        d.send(f"cancel {gone}")
        expect(d.get("db.write"), "none")


@test
def processes_take_a_new_configuration(idp):
    with Daemon(idp) as d:
        expect(d.get(), "none")
        # Nothing that concerns them: what is known stays known.
        d.send("config " + d.config("b.yaml") + "")
        expect(d.get(), "none")
        assert d.state()["granted"] == 2
        # Another client, while a question waits: it is asked anew.
        idp.faults({"path": "/token", "delay_ms": 400, "count": 1})
        want = d.ask()
        time.sleep(0.1)
        d.send("config " + d.config("c.yaml", jwt=True))
        assert d.read() == {"event": "keyd gone", "status": 0}
        d.send("keyd start")
        got = [d.read(), d.read()]
        r = next(x for x in got if "id" in x)
        assert r["id"] == want and r["subject"] == "jwt-es256", r
        expect(r, "none")
        d.send("config " + d.config("d.yaml", idp=False))
        assert d.read()["event"] == "keyd gone"
        expect(d.get(), "idp_unreachable", "no identity provider")


import test_ident_ways  # noqa: E402: more tests, of the ways that need a person or a token
TESTS += test_ident_ways.tests(Probe, expect)
import test_ident_bound  # noqa: E402: and of clients and tokens that are bound to keys
TESTS += test_ident_bound.tests(Probe, Daemon, expect, lambda **kw: Idp(INSTALLED, **kw))
import test_ident_saml  # noqa: E402: and of assertions
TESTS += test_ident_saml.tests(Daemon, expect, INSTALLED)
import test_ident_odd  # noqa: E402: and of providers that are unlike this one
TESTS += test_ident_odd.tests(Probe, expect)


def main():
    passed = failed = 0
    idp = Idp(INSTALLED)
    try:
        for f in [f for f in TESTS if f.__name__ in (sys.argv[3:] or [f.__name__])]:
            t = time.monotonic()
            try:
                idp.faults()
                idp.admin_call("/config", {"at_ttl": 300, "ciba_ttl": 120, "details": "",
                                           "interval": 1, "slow_down": 0, "binding": "loose",
                                           "issued": "", "banned": ""})
                f(idp)
                passed += 1
                print(f"  ok      {f.__name__:<40} {time.monotonic() - t:5.1f} s", flush=True)
            except Exception:  # noqa: BLE001: a failure is counted, whatever it is
                failed += 1
                print(f"  FAIL    {f.__name__}\n{traceback.format_exc()}", flush=True)
    finally:
        idp.close()
    print(f"ident: {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
