# SPDX-License-Identifier: MIT
"""Approvals by a person (CIBA, device) and about the agent's own token (exchange, introspection),
asked of a real provider by the OpenID Connect client. Run by test_ident.py."""
import base64
import json
import time

CREDENTIALS, EXCHANGE, CIBA, DEVICE, INTROSPECTION, SAML = range(6)
RS = "https://db.example/"
DIGEST = "ab" * 32


def b64url(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def tests(Probe, expect):
    found = []

    def test(f):
        found.append(f)
        return f

    def probe(idp, **kv):
        return Probe(idp.issuer, details="agent_access", **kv)

    def put(p, flow, **ask):
        p.next_id += 1
        ask = {"flow": flow, "scope": "openid db.ddl", "hold_ms": 20000, **ask}
        p.send(f"put {p.next_id} {json.dumps(ask)}")
        return p.next_id

    def ciba(p, **ask):
        """Asks a person, and returns once that person has been asked."""
        want = put(p, CIBA, **{"login_hint": "alice", "binding_message": "ab12: ddl on db",
                               "target": "db", "action": "ddl", "details": True, "digest": DIGEST,
                               **ask})
        r = p.read()
        assert r["id"] == want and "alice" in r["pending"], r
        return r

    def until(p, seconds=15):
        began = time.monotonic()
        r = p.read()
        assert time.monotonic() - began < seconds, r
        return r

    # -------------------------------------------------------------- CIBA
    @test
    def ciba_yes(idp):
        with probe(idp) as p:
            ciba(p, acr=["urn:mfa"], max_age_ms=60_000)
            asked = idp.asked()
            assert asked["binding_message"] == "ab12: ddl on db", asked
            assert asked["details"] == [{
                "type": "agent_access", "agent": "agent", "identifier": "db", "actions": ["ddl"],
                "statement_digest": "sha-256:" + DIGEST}], asked
            idp.decide("approve")
            r = until(p)
            expect(r, "none")
            assert r["approver"] == r["subject"] == "alice" and r["scope"] == "db.ddl", r
            e = json.loads(r["evidence"])
            assert e["acr"] == "urn:mfa" and e["sub"] == "alice" and "auth_time" in e, e
            assert e["authorization_details"] == asked["details"], e

    @test
    def ciba_no(idp):
        with probe(idp) as p:
            ciba(p)
            idp.decide("deny")
            expect(until(p), "approval_denied", "access_denied")

    @test
    def ciba_other_ends(idp):
        rows = [("expire", "approval_expired"), ("transaction_failed", "idp_denied"),
                ("made_up_error", "idp_denied")]
        with probe(idp) as p:
            for verdict, reason in rows:
                ciba(p)
                idp.decide(verdict)
                expect(until(p), reason)

    @test
    def ciba_nobody_decides(idp):
        with probe(idp) as p:
            ciba(p, hold_ms=2500)
            expect(until(p), "approval_expired", "did not decide")
        idp.admin_call("/config", {"ciba_ttl": 2})
        with probe(idp) as p:
            ciba(p)
            expect(until(p), "approval_expired")

    @test
    def ciba_requests_that_are_refused(idp):
        with probe(idp) as p:
            put(p, CIBA, login_hint="nobody")
            expect(p.read(), "idp_denied", "unknown_user_id", "login_hint")
            idp.admin_call("/config", {"binding": "strict"})
            put(p, CIBA, login_hint="alice", binding_message="words with spaces")
            expect(p.read(), "idp_denied", "invalid_binding_message", "short")
            put(p, CIBA, login_hint="alice", scope="db.ddl")
            expect(p.read(), "idp_denied")
            p.next_id += 1
            p.send(f'put {p.next_id} {{"flow": 2, "scope": "openid"}}')
            assert "error" in p.read()  # nobody to ask

    @test
    def ciba_whom_the_agents_token_names(idp):
        """login_hint_token (CIBA Core 7.1): no hint besides, and no token is no question."""
        with probe(idp) as p:
            want = put(p, CIBA, token=idp.token(scope="db.ddl"), hint_token=True, binding_message="b")
            r = p.read()
            assert r["id"] == want and "whom the agent's token names" in r["pending"], r
            assert idp.asked()["account"] == "alice"
            idp.decide("approve")
            r = until(p)
            expect(r, "none")
            assert r["approver"] == "alice", r
            put(p, CIBA, token=idp.token(scope="db.ddl", ttl=-100), hint_token=True)
            expect(p.read(), "idp_denied", "expired_login_hint_token", "renewed in time")
            put(p, CIBA, token="no.token.at-all", hint_token=True)
            expect(p.read(), "idp_denied", "unknown_user_id")
            p.next_id += 1
            p.send(f'put {p.next_id} {{"flow": 2, "scope": "openid", "hint_token": true}}')
            assert "error" in p.read()

    @test
    def ciba_answers_that_say_less(idp):
        """What is not in the token was not approved, whoever said yes."""
        less = [{"type": "agent_access", "agent": "agent", "identifier": "db", "actions": ["ddl"],
                 "statement_digest": "sha-256:" + "00" * 32}]
        rows = [({"details": less}, "details"), ({"details": []}, "details"),
                ({"scope": "openid"}, "scope"),
                ({"acr": "urn:pwd"}, "acr"), ({"auth_time": int(time.time()) - 7200}, "max_age")]
        with probe(idp) as p:
            for said, part in rows:
                ciba(p, approvers=["alice"], acr=["urn:mfa"], max_age_ms=3600_000)
                idp.decide("approve", **said)
                expect(until(p), "idp_denied", part)
            ciba(p, approvers=["alice"], acr=["urn:mfa"], max_age_ms=3600_000)
            idp.decide("approve")
            expect(until(p), "none")
            ciba(p, approvers=["bob"])
            idp.decide("approve")
            expect(until(p), "idp_denied", "approvers")

    @test
    def ciba_groups(idp):
        with probe(idp) as p:
            ciba(p, groups=["dba"])
            idp.decide("approve")
            expect(until(p), "none")
            put(p, CIBA, groups=["dba"], login_hint="bob")
            p.read()
            idp.decide("approve")
            expect(until(p), "idp_denied", "groups")

    @test
    def ciba_narrowed_duration(idp):
        said = {"type": "agent_access", "agent": "agent", "identifier": "db",
                "actions": ["connect"]}
        with probe(idp) as p:
            for duration, ok in ((60, True), (601, False), (0, False), ("60", False)):
                ciba(p, action="connect", digest=None, duration_ms=600_000)
                idp.decide("approve", details=[{**said, "duration": duration}])
                r = until(p)
                expect(r, "none" if ok else "idp_denied")
                assert r["ttl_ms"] <= 60_000, r

    @test
    def ciba_slow_down(idp):
        idp.admin_call("/config", {"slow_down": 1})
        with probe(idp) as p:
            began = time.monotonic()
            ciba(p)
            idp.decide("approve")
            time.sleep(0)
            idp.admin_call("/config", {"slow_down": 0})
            expect(until(p), "none")
            idp.admin_call("/config", {"slow_down": 1})
            calls = idp.stats()["/token"]
            ciba(p)
            time.sleep(4)
            assert idp.stats()["/token"] - calls == 1, "one poll, then 6 s of silence"
            idp.decide("approve")
            expect(until(p), "none")
            assert time.monotonic() - began > 6

    @test
    def ciba_provider_away_for_a_moment(idp):
        """A person's decision is not lost by polls that fail."""
        with probe(idp) as p:
            ciba(p)
            idp.faults({"path": "/token", "status": 503, "count": 1})
            idp.decide("approve")
            expect(until(p), "none")
            ciba(p)
            idp.faults({"path": "/token", "drop": True, "count": 1})
            idp.decide("approve")
            expect(until(p), "none")

    @test
    def ciba_cancelled(idp):
        with probe(idp) as p:
            ciba(p)
            p.send(f"cancel {p.next_id}")
            assert p.state()["waiting"] == 0

    @test
    def ciba_equal_questions_are_two(idp):
        with probe(idp) as p:
            first, second = ciba(p), ciba(p)
            idp.decide("approve")
            r = until(p)
            assert r["id"] == second["id"], "one yes is for one statement"
            expect(r, "none")
            p.send(f"cancel {first['id']}")

    @test
    def ciba_broken_answers(idp):
        path = "/backchannel"
        ok = {"auth_req_id": "x", "expires_in": 60}
        rows = [{}, {**ok, "auth_req_id": ""}, {**ok, "expires_in": None}, {**ok, "expires_in": 0},
                {**ok, "interval": "1"}, {**ok, "auth_req_id": 7}, "", "<html>"]
        with probe(idp) as p:
            for body in rows:
                idp.faults({"path": path, "status": 200, "body": body, "count": 1})
                put(p, CIBA, login_hint="alice")
                expect(p.read(), "idp_bad_answer")
            idp.faults({"path": path, "status": 200, "body": ok, "count": 1})
            put(p, CIBA, login_hint="alice", poll_ms=1000)
            p.read()
            expect(until(p), "idp_denied", "invalid_grant")  # the provider never gave that id

    @test
    def ciba_without_an_id_token(idp):
        token = idp.token(scope="db.ddl")
        with probe(idp) as p:
            ciba(p, details=False)
            idp.faults({"path": "/token", "status": 200, "count": 1,
                        "body": {"access_token": token, "token_type": "Bearer"}})
            expect(until(p), "idp_bad_answer", "id_token")

    # ------------------------------------------------------------ device
    @test
    def device_yes_and_no(idp):
        with probe(idp) as p:
            for verdict, reason in (("approve", "none"), ("deny", "approval_denied")):
                put(p, DEVICE, scope="openid db.ddl", target="db", action="ddl", details=True)
                r = p.read()
                assert r["code"] in r["pending"] and r["uri"].startswith(idp.issuer), r
                idp.admin_call(f"/device/{r['code']}/{verdict}", {"account": "alice"})
                r = until(p)
                expect(r, reason)
                assert r["approver"] == ("alice" if verdict == "approve" else ""), r

    @test
    def device_by_the_wrong_person(idp):
        with probe(idp) as p:
            put(p, DEVICE, groups=["dba"])
            r = p.read()
            idp.admin_call(f"/device/{r['code']}/approve", {"account": "bob"})
            expect(until(p), "idp_denied", "groups")

    @test
    def device_pages_elsewhere(idp):
        ok = {"device_code": "x", "user_code": "AB-CD", "expires_in": 60,
              "verification_uri": idp.issuer}
        rows = [{**ok, "verification_uri": "http://evil.example/"}, {**ok, "verification_uri": 1},
                {**ok, "user_code": "A\u001b[2J"}, {**ok, "user_code": "A" * 65}]
        with probe(idp) as p:
            for body in rows:
                idp.faults({"path": "/device/auth", "status": 200, "body": body, "count": 1})
                put(p, DEVICE)
                expect(p.read(), "idp_bad_answer")

    # ------------------------------------------- the agent's own token
    @test
    def exchange(idp):
        token = idp.token(scope="db.read db.ddl")
        with probe(idp) as p:
            put(p, EXCHANGE, scope="db.ddl", token=token, target="db", action="ddl", details=True)
            r = p.read()
            expect(r, "none")
            assert r["subject"] == "alice" and r["approver"] == "", r
            put(p, EXCHANGE, scope="db.write", token=token)
            expect(p.read(), "idp_denied", "invalid_scope")
            put(p, EXCHANGE, scope="db.ddl", token="no.such.token")
            expect(p.read(), "idp_denied")
            idp.admin_call("/config", {"issued": "urn:ietf:params:oauth:token-type:id_token"})
            put(p, EXCHANGE, scope="db.ddl", token=token)
            expect(p.read(), "idp_bad_answer", "issued_token_type")
            p.next_id += 1
            p.send(f'put {p.next_id} {{"flow": 1, "scope": "db.ddl"}}')
            assert "error" in p.read()  # no token, no question

    @test
    def saml_bearer(idp):
        cases = idp.assertions(AUDIENCE=idp.issuer, RECIPIENT=idp.issuer + "/token", SUBJECT="alice")
        with probe(idp) as p:
            ask = {"scope": "db.ddl", "target": "db", "action": "ddl", "details": True}
            good = b64url(cases["good"])
            put(p, SAML, token=good, **ask)
            r = p.read()
            expect(r, "none")
            assert r["subject"] == "alice" and r["approver"] == "" and r["scope"] == "db.ddl", r
            put(p, SAML, token=good, **ask)
            expect(p.read(), "idp_denied", "invalid_grant")
            for name, xml in cases.items():
                if name not in ("good", "comment-in-subject"):
                    put(p, SAML, token=b64url(xml), **ask)
                    expect(p.read(), "idp_denied", "invalid_grant")
            # A token of it that says less than was asked for is none.
            idp.admin_call("/config", {"details": "drop"})
            fresh = idp.assertions(AUDIENCE=idp.issuer, RECIPIENT=idp.issuer + "/token",
                                   SUBJECT="alice", ONLY="good")["good"]
            put(p, SAML, token=b64url(fresh), **ask)
            expect(p.read(), "idp_denied", "authorization details")
            put(p, SAML, token="no assertion", **ask)
            expect(p.read(), "idp_denied", "invalid_grant")
            idp.admin_call("/config", {"details": ""})

    @test
    def introspection(idp):
        token = idp.token(scope="db.read", resource=RS + "opaque")
        with probe(idp, fmt="opaque") as p:
            put(p, INTROSPECTION, scope="db.read", token=token)
            r = p.read()
            expect(r, "none")
            assert r["subject"] == "alice" and 0 < r["ttl_ms"] <= 300_000, r
            put(p, INTROSPECTION, scope="db.ddl", token=token)
            expect(p.read(), "idp_denied", "scope")
            put(p, INTROSPECTION, scope="db.read", token=token, audience="https://other.example")
            expect(p.read(), "idp_bad_answer", "audience")
            idp.admin_call("/revoke", {"token": token})
            put(p, INTROSPECTION, scope="db.read", token=token)
            expect(p.read(), "idp_denied", "not active")

    @test
    def introspection_of_what_cannot_be(idp):
        with probe(idp) as p:  # this provider does not introspect JWTs
            put(p, INTROSPECTION, scope="db.read", token=idp.token())
            expect(p.read(), "idp_denied", "unsupported_token_type")

    @test
    def introspection_answers(idp):
        path = "/token/introspection"
        now = int(time.time())
        ok = {"active": True, "exp": now + 60, "scope": "db.read", "sub": "x"}
        rows = [({"active": "true"}, "idp_denied"), ({**ok, "exp": None}, "idp_bad_answer"),
                ({**ok, "exp": now - 60}, "idp_bad_answer"), ({**ok, "iss": "x"}, "idp_bad_answer"),
                ({**ok, "aud": ["x"]}, "idp_bad_answer"), ({**ok, "nbf": now + 600}, "idp_bad_answer"),
                ({**ok, "cnf": {"jkt": "x"}}, "idp_denied"), ({**ok, "scope": "db"}, "idp_denied"),
                ("", "idp_bad_answer"), (ok, "none")]
        with probe(idp) as p:
            for body, reason in rows:
                idp.faults({"path": path, "status": 200, "body": body, "count": 1})
                put(p, INTROSPECTION, scope="db.read", token="opaque-token")
                expect(p.read(), reason)

    return found
