# SPDX-License-Identifier: MIT
"""SAML assertions as approvals (`by: saml`), judged by a real authd in its sandbox. Run by
test_ident.py; the assertions are made by idp/saml-make.mjs."""
import base64
import contextlib
import json
import os
import shutil
import tempfile

from idp_server import assertions

ISSUER, AUDIENCE, RECIPIENT = ("https://idp.example/saml", "https://db.example/guard",
                               "https://db.example/guard/acs")
TIME_SYNC = "urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"


def b64url(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def tests(Daemon, expect, installed):
    found = []

    def test(f):
        found.append(f)
        return f

    class Judge(Daemon):
        """Without a provider: authd is there for the ways alone."""

        def __init__(self, idp, keys, **ways):
            self.keys, self.ways = keys, ways
            super().__init__(idp)

        def config(self, name="a.yaml", **kv):
            shutil.copy(os.path.join(self.keys, "saml-idp.crt.pem"), self.dir)
            os.chmod(f"{self.dir}/saml-idp.crt.pem", 0o644)
            saml = (f"issuer: '{ISSUER}', audience: '{AUDIENCE}', recipient: '{RECIPIENT}', "
                    f"certificate_file: {self.dir}/saml-idp.crt.pem")
            rows = "".join(f"  {k}: {{ by: saml, {more}saml: {{ {saml}{sub} }} }}\n"
                           for k, (more, sub) in self.ways.items())
            path = super().config(name, idp=False, **kv)
            with open(path, "a", encoding="utf-8") as f:
                f.write("approvals:\n" + rows)
            return path

        def judge(self, way, token):
            self.next_id += 1
            self.send(f"way {self.next_id} {way} {b64url(token)}")
            r = self.read()
            assert r["id"] == self.next_id, r
            return r

        def state(self):
            self.send("ways")
            return {w["name"]: w for w in self.read()}

    shared = tempfile.TemporaryDirectory(prefix="tidegate-saml-keys-")

    @contextlib.contextmanager
    def keys():
        """Of an issuer and of somebody else: making them takes longer than all the rest."""
        if not os.listdir(shared.name):
            assertions(installed, shared.name, ONLY="good")
        yield shared.name

    @test
    def saml_cases(idp):
        with keys() as k:
            cases = assertions(installed, k)
            assert len(cases) == 18
            with Judge(idp, k, alone=("", ""), wrapped=("", ", form: response")) as d:
                for name in sorted(cases, key=lambda n: n != "good"):
                    for way in ("alone", "wrapped"):
                        r = d.judge(way, cases[name])
                        if (way, name) in (("alone", "good"), ("wrapped", "good-responsewrap")):
                            # It is the same assertion, and good once.
                            expect(r, "none" if way == "alone" else "idp_denied")
                        else:
                            expect(r, "idp_bad_answer", "the agent's SAML assertion: ")
                r = d.judge("wrapped", assertions(installed, k)["good-responsewrap"])
                expect(r, "none")
                assert r["subject"] == "dba-alice" and 290_000 < r["ttl_ms"] <= 300_000, r
                e = json.loads(r["evidence"])[0]
                assert e["way"] == "wrapped" and e["issuer"] == ISSUER, e
                assert e["groups"] == ["dba", "approvers"] and e["acr"] == TIME_SYNC, e
                assert e["token_sha256"] == r["token_digest"] and len(r["token_digest"]) == 64, r
                s = d.state()
                assert s["alone"]["state"] == "up" and s["alone"]["certificates"] == 1, s
                assert (s["alone"]["allowed"], s["alone"]["denied"]) == (1, 17), s
                assert (s["wrapped"]["allowed"], s["wrapped"]["denied"]) == (1, 18), s
                assert "SAML assertion" in s["wrapped"]["last_refusal"], s

    @test
    def saml_once_or_until_it_ends(idp):
        with keys() as k, Judge(idp, k, once=("", ""), often=("", ", once: false")) as d:
            good = assertions(installed, k, ONLY="good")["good"]
            for _ in range(3):
                expect(d.judge("often", good), "none")
            expect(d.judge("once", good), "none")
            expect(d.judge("once", good), "idp_denied", "has been used")
            # A reload forgets nothing. The certificates lie where the sandbox does not look any
            # more: those from the start stay in force.
            d.send("config " + d.config("b.yaml"))
            expect(d.judge("once", good), "idp_denied", "has been used")
            expect(d.judge("often", good), "none")

    @test
    def saml_people(idp):
        rows = {"approvers": ("approvers: [dba-alice], ", "none"),
                "others": ("approvers: [dba-bob], ", "idp_denied"),
                "groups": ("groups: [dba], ", "none"),
                "prefix": ("groups: [db], ", "idp_denied"),
                "claim": ("groups: [dba], groups_claim: roles, ", "idp_denied"),
                "acr": (f"acr: ['urn:x', '{TIME_SYNC}'], ", "none"),
                "low": ("acr: ['urn:x'], ", "idp_denied"),
                "fresh": ("max_age: 60s, ", "none")}
        with keys() as k:
            xml = assertions(installed, k, ONLY="good")["good"]
            ways = {n: (more, ", once: false") for n, (more, _) in rows.items()}
            with Judge(idp, k, **ways) as d:
                for name, (_, want) in rows.items():
                    expect(d.judge(name, xml), want)
                expect(d.judge("groups,others", xml), "idp_denied", "not among")
                r = d.judge("groups,approvers,acr", xml)
                expect(r, "none")
                assert [e["way"] for e in json.loads(r["evidence"])] == ["groups", "approvers", "acr"]

    @test
    def saml_odd_tokens(idp):
        with keys() as k, Judge(idp, k, own=("", "")) as d:
            for token in ("", "x", "<", "<a/>", "x" * 20000, "eyJhbGciOiJub25lIn0.e30."):
                expect(d.judge("own", token), "idp_bad_answer" if token else "no_token")
            d.send("way 99 own not!base64")
            expect(d.read(), "idp_bad_answer", "neither XML nor base64")

    return found
