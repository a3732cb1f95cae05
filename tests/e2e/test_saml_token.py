# SPDX-License-Identifier: MIT
"""The agent's own token is a SAML 2.0 assertion, signed by xmlsec1, in a file where the agent is; it
decides whether the agent gets in."""
import base64
import datetime
import os
import shutil
import subprocess
import tempfile

import pytest
from harness import policy, wait_for

ISSUER, AUDIENCE = "https://sts.example/saml", "https://db.example/guard"
RECIPIENT = AUDIENCE + "/acs"
SELECT = ("-A", "-t", "-c", "SELECT 7")
DSIG = "http://www.w3.org/2000/09/xmldsig#"
ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion"

SIGNATURE = f"""<Signature xmlns="{DSIG}"><SignedInfo>\
<CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>\
<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>\
<Reference URI="#%(id)s"><Transforms>\
<Transform Algorithm="{DSIG}enveloped-signature"/>\
<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></Transforms>\
<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference>\
</SignedInfo><SignatureValue/></Signature>"""

TEMPLATE = f"""<saml:Assertion xmlns:saml="{ASSERTION}" ID="%(id)s" Version="2.0" \
IssueInstant="%(issued)s"><saml:Issuer>{ISSUER}</saml:Issuer>{SIGNATURE}\
<saml:Subject><saml:NameID>%(subject)s</saml:NameID>\
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">\
<saml:SubjectConfirmationData Recipient="{RECIPIENT}" NotOnOrAfter="%(ends)s"/>\
</saml:SubjectConfirmation></saml:Subject>\
<saml:Conditions NotBefore="%(issued)s" NotOnOrAfter="%(ends)s">\
<saml:AudienceRestriction><saml:Audience>%(audience)s</saml:Audience></saml:AudienceRestriction>\
</saml:Conditions>\
<saml:AttributeStatement><saml:Attribute Name="groups">\
<saml:AttributeValue>%(group)s</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>\
</saml:Assertion>"""


def at(seconds):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Sts:
    """Who issues the assertions: a key, a certificate, and xmlsec1."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tidegate-sts-")
        os.chmod(self.dir, 0o755)
        self.count = 0
        for name in ("sts", "other"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
                            "-subj", f"/CN={name}", "-keyout", f"{self.dir}/{name}.key",
                            "-out", f"{self.dir}/{name}.crt"], check=True, capture_output=True)
        os.chmod(f"{self.dir}/sts.crt", 0o644)

    def assertion(self, key="sts", subject="build-agent", audience=AUDIENCE, issued=-5, ends=300,
                  group="agents"):
        self.count += 1
        text = TEMPLATE % {"id": f"_a{self.count}", "subject": subject, "audience": audience,
                           "issued": at(issued), "ends": at(ends), "group": group}
        with open(f"{self.dir}/in.xml", "w", encoding="utf-8") as f:
            f.write(text)
        out = subprocess.run(["xmlsec1", "--sign", "--privkey-pem", f"{self.dir}/{key}.key",
                              "--id-attr:ID", f"{ASSERTION}:Assertion", f"{self.dir}/in.xml"],
                             check=True, capture_output=True, text=True).stdout
        return out[out.index("<saml:Assertion"):].strip()

    def verifies(self, xml):
        """What xmlsec1 alone thinks of it."""
        with open(f"{self.dir}/check.xml", "w", encoding="utf-8") as f:
            f.write(xml)
        return subprocess.run(["xmlsec1", "--verify", "--pubkey-cert-pem", f"{self.dir}/sts.crt",
                               "--id-attr:ID", f"{ASSERTION}:Assertion", f"{self.dir}/check.xml"],
                              capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def sts():
    if not shutil.which("xmlsec1"):
        pytest.skip("no xmlsec1")
    s = Sts()
    yield s
    shutil.rmtree(s.dir)


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="tidegate-agent-") as d:
        os.chmod(d, 0o755)
        yield d


def put(place, token):
    with open(f"{place}/new", "w", encoding="utf-8") as f:
        os.fchmod(f.fileno(), 0o644)
        f.write(token)
    os.rename(f"{place}/new", f"{place}/token")


@pytest.fixture
def guarded(daemon, pg, sts, place):
    def make(more="", way=""):
        saml = (f"issuer: '{ISSUER}', audience: '{AUDIENCE}', recipient: '{RECIPIENT}', "
                f"certificate_file: {sts.dir}/sts.crt{more}")
        text = f"approvals:\n  own: {{ by: saml, {way}saml: {{ {saml} }} }}\n"
        return daemon(text + policy(pg.port, access="{ approval: own, max: 15m }").replace(
            "bot: {", f"bot: {{ token: {place}/token,"), workers=1)
    return make


def test_an_assertion_lets_the_agent_in(guarded, pg, sts, place):
    d = guarded()
    put(place, sts.assertion())
    assert d.psql(pg.port, *SELECT) == "7\n"
    g, = d.ctl("grant.list")
    assert g["via"] == "own" and "build-agent" in g["by"], g
    # The grant is the assertion's: it needs no second look, and another one is asked about anew.
    assert d.psql(pg.port, *SELECT) == "7\n"
    put(place, base64.b64encode(sts.assertion().encode()).decode())
    assert d.psql(pg.port, *SELECT) == "7\n"
    assert len(d.ctl("grant.list")) == 2
    wait_for("the record", lambda: b'"by":"idp: build-agent' in d.record_text())
    text = d.record_text()
    assert b"SignatureValue" not in text and "SignatureValue" not in d.log()


def test_access_ends_with_the_assertion(guarded, pg, sts, place):
    d = guarded(more=", clock_skew: 0s")
    put(place, sts.assertion(ends=6))
    out = d.psql(pg.port, "-c", "SELECT pg_sleep(30)")
    assert "granted time is over" in out, out
    assert "access denied" in d.psql(pg.port, *SELECT)


def wrapped(sts):
    """Signature wrapping: xmlsec1 verifies the signed one, wherever it stands."""
    good = sts.assertion()
    signature = good[good.index("<Signature"):good.index("</Signature>") + len("</Signature>")]
    forged = good.replace(signature, "").replace('ID="', 'ID="_forged').replace(
        ">build-agent<", ">root<")
    response = ('<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_r" '
                f'Version="2.0" IssueInstant="{at(0)}">%s</samlp:Response>')
    return {
        "beside": response % (forged + good),
        "behind": response % (good + forged),
        "inside": forged.replace("<saml:Subject>", f"<saml:Advice>{good}</saml:Advice><saml:Subject>"),
        "in the signature": forged.replace("<saml:Subject>", signature.replace(
            "</Signature>", f"<Object>{good}</Object></Signature>") + "<saml:Subject>"),
    }


def test_what_lets_nobody_in(guarded, pg, sts, place):
    """Each with an assertion that is right but for one thing; who may not come in is told so."""
    good = sts.assertion()
    subject = ">build-agent<"
    genuine = {
        "another audience": sts.assertion(audience="https://other.example"),
        "expired": sts.assertion(issued=-600, ends=-300),
        "not yet valid": sts.assertion(issued=600, ends=900),
        "too long a life": sts.assertion(ends=7200),
        "not of the group": sts.assertion(group="humans"),
        "a comment in the name": good.replace(subject, ">build-<!-- -->agent<"),
    }
    forged = {
        "another key": sts.assertion(key="other"),
        "another name": good.replace(subject, ">root<"),
        "no signature": good[:good.index("<Signature")] + good[good.index("</Signature>") + 12:],
        "a document type": "<!DOCTYPE a [<!ENTITY x 'root'>]>" + good,
        "no assertion": "not a token at all",
        "half of one": good[:len(good) // 2],
    }
    d = guarded(way="groups: [agents], ")
    for name, xml in {**genuine, **forged, **wrapped(sts)}.items():
        if name in genuine:
            assert sts.verifies(xml), f"{name}: xmlsec1 alone would have taken it"
        put(place, xml)
        out = d.psql(pg.port, *SELECT)
        assert "access denied" in out and "7\n" not in out, (name, out)
    assert d.ctl("grant.list") == []
    os.unlink(f"{place}/token")
    assert "no workload token" in d.psql(pg.port, *SELECT)
    put(place, good)  # it was not used up by those who copied it
    assert d.psql(pg.port, *SELECT) == "7\n"
    log = d.log()
    for words in ("audience", "expired", "signature"):
        assert words in log, words
    assert "SignatureValue" not in log


def test_one_is_good_for_one_time(guarded, pg, sts, place):
    """After its grant was revoked the same assertion is no approval any more."""
    d = guarded()
    put(place, sts.assertion())
    assert d.psql(pg.port, *SELECT) == "7\n"
    g, = d.ctl("grant.list")
    d.ctl("grant.revoke", id=g["id"], reason="test")
    assert "access denied" in d.psql(pg.port, *SELECT)
    assert "has been used" in d.log()
    assert d.ctl("grant.list") == []
