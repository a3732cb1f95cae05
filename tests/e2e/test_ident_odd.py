# SPDX-License-Identifier: MIT
"""Providers that are unlike the one of the other tests: a stub answers as some in the field do. Run by
test_ident.py."""
import json
import os
import time

from idp_stub import SECRET, Stub, b64, respond

CREDENTIALS, EXCHANGE, CIBA, DEVICE, INTROSPECTION = range(5)
RECHECK = 6
GRANT_CIBA = "urn:openid:params:grant-type:ciba"
PENDING = {"error": "authorization_pending"}


def tests(Probe, expect):
    found = []

    def test(f):
        found.append(f)
        return f

    def probe(stub, **kv):
        return Probe(stub.issuer, **{"client": "stub", "secret": SECRET, "audience": "stub", "resource": "", **kv})

    def put(p, flow, **ask):
        p.next_id += 1
        p.send(f"put {p.next_id} {json.dumps({'flow': flow, 'hold_ms': 20000, **ask})}")
        return p.next_id

    def person(p, **ask):
        put(p, CIBA, scope="openid db.ddl", login_hint="boss", **ask)
        assert "boss" in p.read()["pending"]

    def yes(stub, form, sub="stub", **claims):
        """What a poll is answered once the person has said yes."""
        now = int(time.time())
        ids = {"iss": stub.issuer, "aud": "stub", "sub": sub, "iat": now, "exp": now + 300, **claims}
        return {**stub.token({"scope": "db.ddl"}), "id_token": stub.sign(ids, "JWT")}

    def polls(stub, *answers):
        """Each poll gets the next one; bytes are sent as they are, None ends the connection."""
        left = list(answers)

        def answer(s, conn, form):
            if form.get("grant_type") != GRANT_CIBA:
                return s.answer("/token", form)
            a = left.pop(0)
            return a(s, conn, form) if callable(a) else a
        stub.faults["/token"] = answer
        stub.faults["/ciba"] = lambda s, conn, form: respond(
            200, {"auth_req_id": b64(os.urandom(16)), "expires_in": 120, "interval": 0.1})
        return left

    # ------------------------------------------------- a handle that was used
    @test
    def odd_lost_answer_is_no_denial(idp):
        """The yes was lost on its way; what the used handle gets then is nobody's no."""
        denied, used = (respond(400, {"error": e}) for e in ("access_denied", "invalid_grant"))
        broken = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{"
        rows = [(None, denied, "access_denied"), (None, used, "invalid_grant"),
                (None, respond(403, b""), "HTTP 403"), (broken, denied, "access_denied"),
                (respond(500, b"", "text/html"), denied, "access_denied"),
                (respond(504, b"gateway", "text/plain"), denied, "access_denied")]
        for lost, then, part in rows:
            stub = Stub()
            with probe(stub) as p:
                left = polls(stub, lost, then)
                person(p)
                expect(p.read(), "idp_denied", part, "may have been the yes")
                assert left == []

    @test
    def odd_denial_after_an_outage_is_one(idp):
        """Where the poll was refused, or never arrived, nothing was lost."""
        stub = Stub()
        with probe(stub) as p:
            polls(stub, respond(503, b""), respond(429, b""), respond(400, {"error": "access_denied"}))
            person(p)
            expect(p.read(), "approval_denied", "access_denied")

            def down(s, conn, form):
                s.down()
                return respond(400, PENDING)
            polls(stub, down, respond(400, {"error": "access_denied"}))
            person(p)
            time.sleep(1)  # a poll finds nobody
            stub.up()
            expect(p.read(), "approval_denied", "access_denied")

    @test
    def odd_kept_connection_that_ends(idp):
        """libcurl sends a request again by itself if a connection that it kept ends: that is noticed."""
        stub = Stub()

        def stay(s, conn, form):
            conn.sendall(respond(400, PENDING).replace(b"connection: close\r\n", b""))
            conn.settimeout(10)
            s.request(conn)  # the next poll, which gets no answer
            return None
        with probe(stub) as p:
            left = polls(stub, stay, respond(400, {"error": "access_denied"}))
            person(p)
            expect(p.read(), "idp_denied", "may have been the yes")
            assert left == [] and stub.calls["/token"] == 2

    # ------------------------------------------------------- error bodies
    @test
    def odd_errors_of_every_endpoint(idp):
        bodies = [(b"", "HTTP 400"), (b"<html>", "HTTP 400"), (b"[]", "HTTP 400"),
                  (b'{"error":7}', "HTTP 400"), (b'{"error":"x_vendor_code"}', "x_vendor_code"),
                  (b'{"error":"a","error":"b"}', "HTTP 400"), (b"\xff\xfe", "HTTP 400")]
        stub = Stub()
        with probe(stub) as p:
            for body, part in bodies:
                bad = respond(400, body, "text/html")
                stub.faults = {"/ciba": lambda s, c, f, bad=bad: bad}
                put(p, CIBA, scope="openid db.ddl", login_hint="boss")
                expect(p.read(), "idp_denied", part)
                stub.faults = {}
                polls(stub, bad)
                person(p)
                expect(p.read(), "idp_denied", part)
                stub.faults = {"/introspect": lambda s, c, f, bad=bad: bad}
                put(p, INTROSPECTION, token="opaque")
                expect(p.read(), "idp_denied", part)
                put(p, RECHECK, token="opaque")
                r = p.read()
                assert r["reason"] == "idp_denied", "that is no word about the token"
                stub.faults = {}
            assert p.state()["state"] == "up"

    @test
    def odd_token_types_and_polls(idp):
        stub = Stub()
        with probe(stub) as p:
            for kind, reason in (("bearer", "none"), ("BEARER", "none"), ("bEaReR", "none"),
                                 ("mac", "idp_bad_answer"), ("", "idp_bad_answer"), (7, "idp_bad_answer")):
                polls(stub, lambda s, c, f, kind=kind: respond(200, {**yes(s, f), "token_type": kind}))
                person(p)
                expect(p.read(), reason)

    @test
    def odd_client_id_besides_an_assertion(idp):
        stub = Stub()
        with probe(stub, auth="jwt", alg="ES256", key=idp.file("jwt-es256.key.pem"), secret="") as p:
            expect(p.get(), "none")
        headers, form = stub.asked["/token"][0]
        assert form["client_id"] == "stub" and form["client_assertion"].count(".") == 2, form
        assert "authorization" not in headers

    # -------------------------------------------- introspection with a token
    @test
    def odd_introspection_with_a_token(idp):
        """Got once by client_credentials, shown in place of the client, and got anew when it is over."""
        stub = Stub(opaque=True)
        shown = []

        def introspect(s, conn, form):
            shown.append(s.asked["/introspect"][-1][0].get("authorization"))
            assert "client_id" not in form and "client_secret" not in form and form["token"], form
            if shown[-1] in refused:
                return respond(401, b"")
            return respond(200, s.introspection(form))
        stub.faults["/introspect"] = introspect
        refused = []
        with probe(stub, introspection="bearer", introspection_scope="introspect me") as p:
            for _ in range(3):
                put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
                expect(p.read(), "none")
            assert len(shown) == 3 and len(set(shown)) == 1 and shown[0].startswith("Bearer "), shown
            (headers, form), = stub.asked["/token"]
            assert form == {"grant_type": "client_credentials", "scope": "introspect me"}, form
            assert headers["authorization"].startswith("Basic ")
            # An opaque token of ours is looked at the same way, and so is one that is rechecked.
            expect(p.get(), "none")
            put(p, RECHECK, token="kept")
            expect(p.read(), "none")
            assert len(shown) == 5 and len(set(shown)) == 1 and len(stub.asked["/token"]) == 2
            # Refused: another one, once.
            refused.append(shown[0])
            put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
            expect(p.read(), "none")
            assert len(shown) == 7 and shown[6] not in refused, shown
            stub.faults["/introspect"] = lambda s, c, f: shown.append("x") or respond(401, b"")
            put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
            expect(p.read(), "idp_denied", "`introspection: bearer`")
            assert len(shown) == 9, "it was shown twice"
            s = p.state()
            assert s["requests"] == 7 and s["granted"] == 5 and s["state"] == "up", s

    @test
    def odd_introspection_token_ends(idp):
        stub = Stub(opaque=True)
        with probe(stub, introspection="bearer") as p:
            stub.ttl = 1
            for i in range(2):
                put(p, RECHECK, token="kept")
                p.read()
                time.sleep(1)
            assert len(stub.asked["/token"]) == 2, "it was over"
            assert "scope" not in stub.asked["/token"][0][1]
            # Many at once wait for the same one.
            time.sleep(1)
            stub.ttl = 300
            for i in range(10):
                put(p, RECHECK, token=f"kept-{i}")
            for i in range(10):
                expect(p.read(), "none")
            assert len(stub.asked["/token"]) == 3

    @test
    def odd_introspection_token_that_cannot_be_had(idp):
        rows = [(respond(400, {"error": "invalid_scope"}), "idp_denied", "invalid_scope"),
                (respond(503, b""), "idp_unreachable", "HTTP 503"),
                (respond(200, {"access_token": "a\r\nX: 1", "token_type": "Bearer"}), "internal", "introspection"),
                (respond(200, {"access_token": "abc", "token_type": "DPoP"}), "idp_bad_answer", "DPoP"),
                (respond(200, {"token_type": "Bearer"}), "idp_bad_answer", "access_token")]
        for answer, reason, part in rows:
            stub = Stub(opaque=True)
            stub.faults["/token"] = lambda s, c, f, answer=answer: answer
            with probe(stub, introspection="bearer", introspection_scope="i") as p:
                put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
                expect(p.read(), reason, part)
                assert stub.calls["/introspect"] == 0

    # ------------------------------------------------------ who that is
    @test
    def odd_name_from_userinfo(idp):
        """`sub` is a number; the approver's name and groups are in userinfo, of the same `sub`."""
        stub = Stub()
        said = {"sub": "4711", "preferred_username": "alice", "groups": ["dba"]}
        stub.claims = {"sub": "4711"}
        stub.faults["/userinfo"] = lambda s, c, f: respond(200, said)
        with probe(stub, name_claim="preferred_username", name_from="userinfo", dpop="auto") as p:
            def ask(**more):
                polls(stub, lambda s, c, f: respond(200, yes(s, f, sub="4711")))
                person(p, **more)
                return p.read()
            r = ask(approvers=["alice"])
            expect(r, "none")
            assert r["approver"] == r["subject"] == "alice", r
            e = json.loads(r["evidence"])
            assert e["sub"] == "4711" and e["name"] == "alice", e
            headers, form = stub.asked["/userinfo"][0]
            assert headers["authorization"].startswith("Bearer eyJ") and form == {}, headers
            assert "content-length" not in headers  # GET
            expect(ask(groups=["dba"]), "none")
            expect(ask(approvers=["bob"]), "idp_denied", "approvers")
            expect(ask(approvers=["4711"]), "idp_denied", "approvers")
            expect(ask(groups=["ops"]), "idp_denied", "approvers")
            for more in ({"sub": "4712"}, {"sub": 4711}, {"sub": None}):
                said.update(more)
                expect(ask(), "idp_bad_answer", "userinfo speaks of another `sub`")
            said["sub"] = "4711"
            for name in (None, "", 7, "a\nb", "\x1b[2J", "x" * 256, ["alice"]):
                said["preferred_username"] = name
                expect(ask(), "idp_bad_answer", "does not say who that is")
            said["preferred_username"] = "alice"
            for answer, reason in ((respond(401, b""), "idp_denied"), (respond(503, b""), "idp_unreachable"),
                                   (respond(200, b"<html>"), "idp_bad_answer"), (None, "idp_unreachable"),
                                   (respond(302, b"", extra="location: http://127.0.0.1:9/\r\n"),
                                    "idp_bad_answer"),
                                   (respond(200, b"a.b.c", "application/jwt"), "idp_bad_answer")):
                time.sleep((p.state().get("next_try_ms", 0) + 50) / 1000)
                stub.faults["/userinfo"] = lambda s, c, f, answer=answer: answer
                expect(ask(), reason)

    @test
    def odd_name_of_the_agents_own_token(idp):
        """By introspection at no further cost; by userinfo with that token."""
        stub = Stub()
        stub.faults["/introspect"] = lambda s, c, f: respond(200, {**s.introspection(f), "username": "ci-bot"})
        with probe(stub, name_claim="username", name_from="introspection") as p:
            put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
            r = p.read()
            expect(r, "none")
            assert r["subject"] == "ci-bot" and stub.calls["/introspect"] == 1, r
        with probe(stub, name_claim="preferred_username", name_from="userinfo") as p:
            put(p, INTROSPECTION, scope="db.read", token="the-agents-own")
            r = p.read()
            expect(r, "none")
            assert r["subject"] == "alice", r
            assert stub.asked["/userinfo"][0][0]["authorization"] == "Bearer the-agents-own"

    @test
    def odd_name_from_introspection_of_a_jwt(idp):
        stub = Stub()
        said = {"active": True, "sub": "stub", "username": "alice"}
        stub.faults["/introspect"] = lambda s, c, f: respond(200, said)
        with probe(stub, name_claim="username", name_from="introspection") as p:
            def ask():
                polls(stub, lambda s, c, f: respond(200, yes(s, f)))
                person(p, approvers=["alice"])
                return p.read()
            expect(ask(), "none")
            said["sub"] = "other"
            expect(ask(), "idp_bad_answer", "introspection speaks of another `sub`")
            del said["sub"]
            expect(ask(), "idp_bad_answer", "introspection speaks of another `sub`")
            said.update(sub="stub", active=False)
            expect(ask(), "idp_denied", "not active")
            # Our own client's tokens have no name, and nobody is asked for one.
            calls = stub.calls["/introspect"]
            expect(p.get(), "none")
            assert stub.calls["/introspect"] == calls

    @test
    def odd_name_in_the_token(idp):
        stub = Stub()
        with probe(stub, name_claim="email") as p:
            polls(stub, lambda s, c, f: respond(200, yes(s, f, email="alice@example.com")))
            person(p, approvers=["alice@example.com"])
            r = p.read()
            expect(r, "none")
            assert r["approver"] == "alice@example.com", r
            polls(stub, lambda s, c, f: respond(200, yes(s, f)))
            person(p)
            expect(p.read(), "idp_bad_answer", "no usable `email`")

    @test
    def odd_no_userinfo_endpoint(idp):
        stub = Stub()
        document = stub.discovery()
        for place in (None, "http://evil.example/userinfo", "https://127.0.0.1/userinfo"):
            document["userinfo_endpoint"] = place
            stub.faults["/.well-known/openid-configuration"] = lambda s, c, f: respond(200, document)
            with probe(stub, name_claim="email", name_from="userinfo") as p:
                polls(stub, lambda s, c, f: respond(200, yes(s, f)))
                person(p)
                expect(p.read(), "idp_denied", "no such endpoint: the userinfo endpoint")

    @test
    def odd_userinfo_of_a_real_provider(idp):
        """The token of a question without a resource is for userinfo; that for a database is not."""
        def ask(**kv):
            with Probe(idp.issuer, "opaque", name_claim="email", name_from="userinfo", **kv) as p:
                put(p, CIBA, scope="openid email", login_hint="alice", binding_message="b",
                    approvers=["alice@example.com"])
                assert "alice" in p.read()["pending"]
                idp.decide("approve")
                return p.read()
        idp.admin_call("/config", {"plain": True})
        try:
            r = ask(resource="", audience="basic")
            expect(r, "none")
            assert r["approver"] == "alice@example.com" and json.loads(r["evidence"])["sub"] == "alice", r
            expect(ask(), "idp_denied", "see `name_from`")
        finally:
            idp.admin_call("/config", {"plain": False})

    return found
