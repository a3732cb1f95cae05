# SPDX-License-Identifier: MIT
"""Clients that prove themselves by a TLS certificate, and tokens that are bound to it (RFC 8705) or to
a key of ours (RFC 9449), at a real provider. Run by test_ident.py."""
import base64
import contextlib
import hashlib
import json
import os
import subprocess
import time

RS = "https://db.example/"
DISCOVERY = "/.well-known/openid-configuration"


def thumb(pem):
    der = subprocess.run(["openssl", "x509", "-in", pem, "-outform", "DER"], check=True,
                         capture_output=True).stdout
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def tests(Probe, Daemon, expect, make_idp):
    found = []
    shared = {}

    def test(f):
        found.append(f)
        return f

    @contextlib.contextmanager
    def tls(mtls="mtls"):
        """The provider with an https issuer; one for all of these tests."""
        if not shared:
            shared["idp"] = make_idp(OP_TLS="1")
            os.chmod(shared["idp"].dir, 0o755)
            import atexit
            atexit.register(shared["idp"].close)
        s = shared["idp"]
        s.faults()
        s.admin_call("/config", {"mtls": getattr(s, mtls) if mtls else "", "interval": 1,
                                 "details": ""})
        yield s

    def probe(s, name, **kv):
        kv = {"client": name, "auth": "tls", "secret": "", "http": "", "ca": s.file("ca.crt.pem"),
              "key": s.file(f"{name}.key.pem"), "cert": s.file(f"{name}.crt.pem"),
              "origin": s.mtls, **kv}
        return Probe(s.issuer, **kv)

    def put(p, **ask):
        p.next_id += 1
        p.send(f"put {p.next_id} {json.dumps({'scope': 'openid db.ddl', 'hold_ms': 20000, **ask})}")
        return p.next_id

    # ------------------------------------------------------------ the client on its own
    @test
    def mtls_clients(idp):
        """EC behind an intermediate, RSA that nobody signed; TLS 1.3 and 1.2; bound tokens."""
        for port in ("mtls", "mtls12"):
            with tls(port) as s:
                for name in ("tls-ca", "tls-self"):
                    with probe(s, name, origin=getattr(s, port)) as p:
                        for scope in ("db.read", "db.write", "db.ddl"):
                            r = p.get(scope)
                            expect(r, "none")
                            cnf = json.loads(r["evidence"])["cnf"]
                            assert cnf == {"x5t#S256": thumb(s.file(f"{name}.crt.pem"))}, cnf
                        state = p.state()
                        assert state["signatures"] == 1, "one connection for three requests"
                        assert state["token_endpoint"] == getattr(s, port) + "/token", state

    @test
    def mtls_opaque_tokens_are_introspected(idp):
        with tls() as s, probe(s, "tls-ca", audience=RS + "opaque", resource=RS + "opaque") as p:
            before = s.stats().get("/token/introspection", 0)
            r = p.get()
            expect(r, "none")
            assert json.loads(r["evidence"])["cnf"]["x5t#S256"] == thumb(s.file("tls-ca.crt.pem"))
            assert s.stats()["/token/introspection"] == before + 1

    @test
    def mtls_people(idp):
        with tls() as s, probe(s, "tls-self", details="agent_access") as p:
            put(p, flow=2, login_hint="alice", binding_message="b")
            assert "alice" in p.read()["pending"]
            s.decide("approve")
            expect(p.read(), "none")
            put(p, flow=3)
            s.admin_call(f"/device/{p.read()['code']}/approve", {})
            expect(p.read(), "none")

    @test
    def mtls_other_certificates(idp):
        """One that is not registered; one whose key is not at hand; no certificate asked for."""
        with tls() as s:
            with probe(s, "tls-ca", client="tls-self") as p:
                expect(p.get(), "idp_denied", "invalid_client", "check idp.client")
            with probe(s, "tls-self", client="tls-ca") as p:
                expect(p.get(), "idp_denied", "invalid_client")
            with probe(s, "tls-ca", credential="unsigned") as p:
                expect(p.get(), "internal", "the token endpoint: ", os.strerror(107))
                state = p.state()
                assert state["state"] != "down" and "keyd" in state["todo"], state
        with tls(None) as s, probe(s, "tls-ca") as p:
            expect(p.get(), "idp_denied", "invalid_client")
            assert p.state()["signatures"] == 0

    @test
    def mtls_aliases_elsewhere(idp):
        """An alias on an origin that was not allowed is not made up for by the plain endpoint."""
        with tls() as s, probe(s, "tls-ca", origin="") as p:
            expect(p.get(), "idp_bad_answer", "token_endpoint", s.mtls, "extra_origins")

    @test
    def mtls_bound_to_others(idp):
        """What was issued to the holder of another key is not for us to use."""
        with tls() as s:
            mine = thumb(s.file("tls-ca.crt.pem"))
            other = thumb(s.file("tls-self.crt.pem"))
            rows = [({"x5t#S256": other}, "another certificate"), ({"jkt": mine}, "cnf"), ({}, "cnf"),
                    ({"x5t#S256": mine, "kid": "x"}, "not known"), ("x", "cnf"), (None, "cnf"),
                    ({"x5t#S256": mine}, None), ({"x5t#S256": mine.lower()}, "another certificate")]
            with probe(s, "tls-ca") as p:
                for cnf, part in rows:
                    now = int(time.time())
                    claims = {"iss": s.issuer, "aud": RS + "es256", "sub": "tls-ca", "exp": now + 60,
                              "iat": now, "scope": "db.read", "client_id": "tls-ca", "cnf": cnf}
                    token = s.admin_call("/sign", {"header": {"typ": "at+jwt"}, "claims": claims})
                    s.faults({"path": "/token", "status": 200, "count": 1, "body": {
                        "access_token": token["token"], "token_type": "Bearer"}})
                    r = p.get(agent=f"a{rows.index((cnf, part))}")
                    expect(r, "idp_bad_answer" if part else "none", part or "")
        # And without a certificate of our own none may be bound to one.
        now = int(time.time())
        token = idp.admin_call("/sign", {"header": {}, "claims": {
            "iss": idp.issuer, "aud": RS + "es256", "sub": "x", "exp": now + 60, "scope": "db.read",
            "cnf": {"x5t#S256": mine}}})["token"]
        idp.faults({"path": "/token", "status": 200, "count": 1,
                    "body": {"access_token": token, "token_type": "bearer"}})
        with Probe(idp.issuer) as p:
            expect(p.get(), "idp_bad_answer", "another certificate")

    # ------------------------------------------------------------ with keyd and authd
    def daemon(s, name, **kv):
        class Bound(Daemon):
            def config(self, path="a.yaml", **more):
                for kind in ("key", "crt"):
                    with open(s.file(f"{name}.{kind}.pem"), encoding="utf-8") as f:
                        self.write(f"client.{kind}.pem", f.read())
                method = "tls_client_auth" if name == "tls-ca" else "self_signed_tls_client_auth"
                client = (f"id: {name}, auth: {method}, key_file: {self.dir}/client.key.pem, "
                          f"certificate_file: {self.dir}/client.crt.pem")
                return super().config(path, client=client, more=(
                    f"  ca_file: {s.file('ca.crt.pem')}\n  extra_origins: ['{s.mtls}', "
                    f"'{s.mtls12}']\n"), **{"timeout": "4s", **kv, **more})
        return Bound(s)

    @test
    def mtls_processes(idp):
        """keyd signs in its sandbox, for an authd that is in the middle of a handshake."""
        for port, name in (("mtls", "tls-ca"), ("mtls12", "tls-self"), ("mtls12", "tls-ca")):
            with tls(port) as s, daemon(s, name) as d:
                for scope in ("db.read", "db.write"):
                    r = d.get(scope)
                    expect(r, "none")
                    cnf = json.loads(r["evidence"])[0]["cnf"]
                    assert cnf == {"x5t#S256": thumb(s.file(f"{name}.crt.pem"))}, cnf

    @test
    def mtls_processes_many_at_once(idp):
        """Questions that come in during a handshake are neither lost nor mixed up."""
        with tls() as s, daemon(s, "tls-ca") as d:
            s.faults({"path": "/token", "delay_ms": 100, "count": -1})
            ids = [d.ask(agent=f"agent{i}") for i in range(40)]
            got = [d.read() for _ in ids]
            for r in got:
                expect(r, "none")
            assert sorted(r["id"] for r in got) == ids

    @test
    def mtls_processes_new_certificate(idp):
        """A reload brings the new key in, and no connection of the old one is used again."""
        with tls() as s, daemon(s, "tls-self") as d:
            expect(d.get(), "none")
            old = thumb(s.file("tls-self.crt.pem"))
            s.admin_call("/renew", {})
            assert thumb(s.file("tls-self.crt.pem")) != old
            d.send("config " + d.config("b.yaml"))
            assert d.read() == {"event": "keyd gone", "status": 0}
            want = d.ask("db.write")
            d.send("keyd start")
            got = [d.read(), d.read()]
            r = next(x for x in got if "id" in x)
            assert r["id"] == want
            expect(r, "none")
            assert json.loads(r["evidence"])[0]["cnf"]["x5t#S256"] == thumb(s.file("tls-self.crt.pem"))

    @test
    def mtls_processes_keyd_away(idp):
        """Killed after it has told the certificate: the handshake fails, and authd goes on."""
        with tls() as s, daemon(s, "tls-ca") as d:
            d.send("keyd stop")
            assert d.read()["event"] == "keyd gone"
            want = d.ask()
            time.sleep(0.6)
            d.send("keyd start")
            got = [d.read(), d.read()]
            r = next(x for x in got if "id" in x)
            assert r["id"] == want
            expect(r, "none")

    # ------------------------------------------------------------ DPoP
    @contextlib.contextmanager
    def dpop(idp, how):
        idp.admin_call("/config", {"dpop": how})
        try:
            yield idp
        finally:
            idp.admin_call("/config", {"dpop": ""})

    def bound(r):
        e = json.loads(r["evidence"])
        return (e[0] if isinstance(e, list) else e).get("cnf", {}).get("jkt")

    @test
    def dpop_tokens_are_bound(idp):
        """Where the provider says that it can: JWTs and opaque ones, of a machine and of a person."""
        for how in ("plain", "nonce"):
            with dpop(idp, how):
                for fmt in ("es256", "opaque"):
                    with Probe(idp.issuer, fmt) as p:
                        first, second = p.get("db.read"), p.get("db.write")
                        for r in (first, second):
                            expect(r, "none")
                        assert len(bound(first)) == 43 and bound(first) == bound(second), first
                        # The nonce is learned once, and a proof is new each time.
                        assert p.state()["proofs"] == (3 if how == "nonce" else 2), p.state()
                with Probe(idp.issuer, details="agent_access") as p:
                    put(p, flow=2, login_hint="alice", binding_message="b")
                    assert "alice" in p.read()["pending"]
                    time.sleep(1.2)
                    idp.decide("approve")
                    r = p.read()
                    expect(r, "none")
                    assert bound(r), r

    @test
    def dpop_with_assertions_and_certificates(idp):
        """A second try with a nonce needs a new assertion; a certificate binds, too, and this
        provider takes one of the two only."""
        with dpop(idp, "nonce"):
            with Probe(idp.issuer, client="jwt-es256", auth="jwt", alg="ES256", kid="jwt-es256-1",
                       key=idp.file("jwt-es256.key.pem")) as p:
                expect(p.get(), "none")
        with tls() as s, dpop(s, "nonce"), probe(s, "tls-ca") as p:
            r = p.get()
            expect(r, "none")
            assert set(json.loads(r["evidence"])["cnf"]) == {"x5t#S256"}, r
            assert p.state()["proofs"] == 0
        with tls() as s, dpop(s, "plain"), probe(s, "tls-ca", dpop="on") as p:
            expect(p.get(), "idp_denied", "multiple proof-of-possession mechanisms")

    @test
    def dpop_settings(idp):
        with dpop(idp, "plain"):
            with Probe(idp.issuer, dpop="off") as p:
                r = p.get()
                expect(r, "none")
                assert not bound(r) and p.state()["proofs"] == 0, r
            with Probe(idp.issuer, dpop="on") as p:
                expect(p.get(), "none")
            with Probe(idp.issuer) as p:  # a token that others are to use
                put(p, flow=0, scope="db.read", bearer=True)
                r = p.read()
                expect(r, "none")
                assert not bound(r) and p.state()["proofs"] == 0, r
            with Probe(idp.issuer, dpop="other") as p:
                expect(p.get(), "idp_bad_answer", "another key (cnf jkt)")
        with Probe(idp.issuer, dpop="on") as p:  # a provider that binds nothing
            expect(p.get(), "idp_bad_answer", "`dpop: on`")
        with Probe(idp.issuer) as p:
            expect(p.get(), "none")
            assert p.state()["proofs"] == 0

    def answered(idp, token_type, before=(), **claims):
        now = int(time.time())
        token = idp.admin_call("/sign", {"header": {"typ": "at+jwt"}, "claims": {
            "iss": idp.issuer, "aud": RS + "es256", "sub": "basic", "exp": now + 60, "iat": now,
            "scope": "db.read", "client_id": "basic", **claims}})["token"]
        idp.faults(*before, {"path": "/token", "status": 200, "count": 1,
                             "body": {"access_token": token, "token_type": token_type}})

    @test
    def dpop_answers_that_do_not_fit(idp):
        with Probe(idp.issuer) as p:
            answered(idp, "DPoP")
            expect(p.get(), "idp_bad_answer", "no proof was sent")
        with dpop(idp, "plain"), Probe(idp.issuer) as p:
            answered(idp, "dpop")
            expect(p.get(), "idp_bad_answer", "does not say to which key")
            answered(idp, "DPoP", cnf={"jkt": "x" * 43})
            expect(p.get(), "idp_bad_answer", "another key")
            answered(idp, "DPoP", cnf={"jkt": 7})
            expect(p.get(), "idp_bad_answer", "another key")
            answered(idp, "MAC")
            expect(p.get(), "idp_bad_answer", "neither Bearer nor DPoP")
            answered(idp, "BEARER")
            expect(p.get(), "none")

    @test
    def dpop_nonces(idp):
        """One more try with a nonce that was given, not two, and none without."""
        want = {"path": "/token", "status": 400, "body": {"error": "use_dpop_nonce"}, "count": -1}
        rows = [({"DPoP-Nonce": "n1"}, 2), ({}, 1), ({"DPoP-Nonce": "a b"}, 1),
                ({"DPoP-Nonce": "x" * 600}, 1), ({"DPoP-Nonce": ["n1", "n2"]}, 1)]
        with dpop(idp, "plain"):
            for headers, calls in rows:
                with Probe(idp.issuer) as p:
                    idp.faults({**want, "headers": headers})
                    before = idp.stats().get("/token", 0)
                    expect(p.get(), "idp_denied", "use_dpop_nonce")
                    assert idp.stats()["/token"] - before == calls, headers
            # Also with 401, and where proofs were not thought of: the introspection endpoint.
            given = {**want, "status": 401, "headers": {"DPoP-Nonce": "n1"}, "count": 1}
            with Probe(idp.issuer) as p:
                answered(idp, "Bearer", before=[given])
                expect(p.get(), "none")
                assert p.state()["proofs"] == 2, p.state()
            idp.faults({**given, "path": "/token/introspection"})
            with Probe(idp.issuer, "opaque") as p:
                expect(p.get(), "none")
                assert p.state()["proofs"] == 2, p.state()
        with Probe(idp.issuer, dpop="off") as p:
            idp.faults({**want, "headers": {"DPoP-Nonce": "n1"}})
            expect(p.get(), "idp_denied", "use_dpop_nonce", "`dpop: off`")

    @test
    def dpop_processes(idp):
        """keyd makes the proofs, also one that was started between two questions."""
        with dpop(idp, "nonce"), Daemon(idp, more="  dpop: on\n") as d:
            first = d.get()
            expect(first, "none")
            d.send("keyd stop")
            assert d.read()["event"] == "keyd gone"
            want = d.ask("db.write")
            time.sleep(0.4)
            d.send("keyd start")
            got = [d.read(), d.read()]
            r = next(x for x in got if "id" in x)
            assert r["id"] == want
            expect(r, "none")
            assert bound(first) and bound(r) and bound(first) != bound(r), "a key of its own each"

    return found
