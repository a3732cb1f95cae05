# SPDX-License-Identifier: MIT
"""The ways of `approvals:`: a live connection or statement waits while somebody elsewhere decides."""
import html
import http.cookiejar
import http.server
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import harness
import pytest
from harness import policy, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
IDP = """idp:
  issuer: {issuer}
  allow_http: true
  timeout: 2s
  audience: https://db.example/es256
  resource: https://db.example/es256
  details_type: agent_access
  client: {{ id: basic, auth: client_secret_basic, secret_file: $DIR/secret }}
"""


@pytest.fixture(scope="module")
def idp():
    done = subprocess.run([f"{HERE}/idp/install.sh"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("npm cannot install the test identity provider")
    from idp_server import Idp
    server = Idp(done.stdout.strip())
    yield server
    server.close()


@pytest.fixture
def guarded(daemon, pg, idp, monkeypatch):
    def make(ways, access="none", commands=None, client="basic", idp_more=""):
        original = harness.Daemon.write_config

        def write(self, text):
            with open(f"{self.dir}/secret", "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write("basic-secret")
            original(self, text)
        monkeypatch.setattr(harness.Daemon, "write_config", write)
        lines = "approvals:\n" + "".join(f"  {k}: {v}\n" for k, v in ways.items())
        section = IDP.format(issuer=idp.issuer).replace("id: basic", f"id: {client}") + idp_more
        return daemon(section + lines +
                      policy(pg.port, access=access, commands=commands), workers=1)
    return make


ONCALL = "{ by: ciba, scope: openid db.ddl, login_hint: alice, groups: [dba], poll: 1s }"
DDL = ["{ effect: ddl, do: approve, approval: oncall }", "{ effect: any, do: allow }"]


def person(idp, seen=0):
    return wait_for("a person to be asked", lambda: idp.admin_call("/requests")[seen:])[-1]


def test_a_statement_waits_for_a_person_elsewhere(guarded, pg, idp):
    """The agent's ALTER is held, the on-call person says yes, the same psql goes on."""
    pg.sql("CREATE TABLE held_elsewhere (a int)", db="shop")
    pg.sql("ALTER TABLE held_elsewhere OWNER TO agent", db="shop")
    d = guarded({"oncall": ONCALL}, commands=DDL)
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "ALTER TABLE held_elsewhere ADD b text")
    asked = person(idp, n)
    a = d.approval()
    assert asked["binding_message"] == (
        f"{a['id']}: bot wants ddl on shop: ALTER TABLE held_elsewhere ADD b text"), asked
    details = asked["details"][0]
    assert details["statement_digest"] == "sha-256:" + a["digest"], details
    assert details["agent"] == "bot" and details["user"] == "agent", details
    a = wait_for("the notice", lambda: [x for x in d.ctl("approval.list") if x["asked"]])[0]
    assert a["ways"] == "oncall" and "alice" in a["asked"], a
    time.sleep(0.2)
    assert psql.poll() is None
    idp.decide("approve")
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "ALTER TABLE" in out and f"NOTICE:  waiting for approval {a['id']}: alice is asked" in out
    assert d.ctl("grant.list") == [], "a yes to a statement is no grant"
    wait_for("the record", lambda: b'"by":"idp: alice' in d.record_text())
    assert b"basic-secret" not in d.record_text() and "eyJ" not in d.log()


def ping(port, auth_req_id, token, path="/ciba"):
    """As the provider does it, or somebody who would be it."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers,
                                     data=json.dumps({"auth_req_id": auth_req_id}).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code


@pytest.fixture
def pinged(guarded, idp):
    port = harness.free_port()
    idp.admin_call("/config", {"ping": f"http://127.0.0.1:{port}/ciba", "interval": 30})
    d = guarded({"oncall": ONCALL.replace("poll: 1s", "delivery: ping")}, commands=DDL, client="ping",
                idp_more=f"  events: 127.0.0.1:{port}\n")
    d.events = port
    yield d
    idp.admin_call("/config", {"ping": "", "interval": 1})


def test_the_provider_pings_when_there_is_an_answer(pinged, pg, idp):
    """The answer is fetched when the provider says that it is there, not half a minute later."""
    d = pinged
    for verdict, part in (("approve", "CREATE TABLE"), ("deny", "approver said no")):
        n = len(idp.admin_call("/requests"))
        psql = d.psql_later(pg.port, "-c", f"CREATE TABLE pinged_{verdict} (a int)")
        asked = person(idp, n)
        calls = idp.stats().get("/token", 0)
        # Who does not know the token, or the question, is not heard.
        for forged in ((asked["id"], "x" * 43), (asked["id"], ""), (asked["id"], None), ("other", "x")):
            assert ping(d.events, *forged) == 401, forged
        time.sleep(0.3)
        assert psql.poll() is None and idp.stats().get("/token", 0) == calls
        began = time.monotonic()
        idp.decide(verdict)
        assert part in psql.communicate(timeout=20 * harness.SLOW)[0]
        assert time.monotonic() - began < 5 * harness.SLOW
        assert idp.stats()["/token"] - calls == 1, "a ping triggers one question"
        assert ping(d.events, asked["id"], asked["ping_token"]) == 401, "it was answered"
    assert "a ping was refused" in d.log() and asked["ping_token"] not in d.log()


def test_a_ping_is_good_once_and_proves_nothing(pinged, pg, idp):
    """It only makes Tidegate ask: while the person has not decided, the statement goes on waiting."""
    d = pinged
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE pinged_early (a int)")
    asked = person(idp, n)
    calls = idp.stats().get("/token", 0)
    assert wait_for("the question", lambda: ping(d.events, asked["id"], asked["ping_token"]) == 204, 5)
    wait_for("a question", lambda: idp.stats().get("/token", 0) == calls + 1)
    assert ping(d.events, asked["id"], asked["ping_token"]) == 401
    time.sleep(0.5)
    assert psql.poll() is None and idp.stats()["/token"] == calls + 1
    psql.send_signal(2)
    assert "canceling statement" in psql.communicate(timeout=10 * harness.SLOW)[0]


def test_an_answer_without_its_ping_is_found_by_asking(guarded, pg, idp):
    """The ping goes to where nobody listens; the first question comes after the usual interval."""
    idp.admin_call("/config", {"ping": f"http://127.0.0.1:{harness.free_port()}/", "interval": 2})
    try:
        d = guarded({"oncall": ONCALL.replace("poll: 1s", "delivery: ping")}, commands=DDL, client="ping",
                    idp_more=f"  events: 127.0.0.1:{harness.free_port()}\n")
        n = len(idp.admin_call("/requests"))
        psql = d.psql_later(pg.port, "-c", "CREATE TABLE ping_lost (a int)")
        person(idp, n)
        with pytest.raises(urllib.error.HTTPError):
            idp.decide("approve")  # it is decided; telling it fails
        assert "CREATE TABLE" in psql.communicate(timeout=20 * harness.SLOW)[0]
    finally:
        idp.admin_call("/config", {"ping": "", "interval": 1})


def test_a_person_elsewhere_says_no(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, commands=DDL)
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE refused_elsewhere (a int)")
    person(idp, n)
    idp.decide("deny")
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "approver said no" in out, out
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 7") == "7\n"


def test_ctrl_c_takes_the_question_back(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, commands=DDL)
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE taken_back (a int)")
    person(idp, n)
    psql.send_signal(2)
    assert "canceling statement" in psql.communicate(timeout=10 * harness.SLOW)[0]
    assert d.ctl("approval.list") == []
    wait_for("authd to forget it", lambda: d.ctl("status")["idp"].get("waiting") == 0, 5)


def test_local_people_cannot_answer_for_those_elsewhere(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, commands=DDL)
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE nobody_here (a int)")
    with pytest.raises(Exception):
        d.ctl("approval.approve", id=d.approval()["id"])
    psql.send_signal(2)
    psql.communicate(timeout=10 * harness.SLOW)


def test_access_by_a_person_is_a_grant(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, access="{ approval: oncall, max: 90s }")
    n = len(idp.admin_call("/requests"))
    first = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 1")
    second = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 2")
    assert person(idp, n)["details"][0]["actions"] == ["connect"]
    wait_for("both to wait", lambda: d.ctl("status")["counters"] and len(
        d.ctl("session.list")) == 2)
    said = {"type": "agent_access", "agent": "bot", "identifier": "shop", "actions": ["connect"],
            "user": "agent", "database": "shop", "duration": 30}
    idp.decide("approve", details=[said])
    assert first.communicate(timeout=15 * harness.SLOW)[0] == "1\n"
    assert second.communicate(timeout=15 * harness.SLOW)[0] == "2\n"
    assert len(idp.admin_call("/requests")) == n + 1, "one question for both"
    g = d.ctl("grant.list")
    assert len(g) == 1 and g[0]["via"] == "oncall" and "alice" in g[0]["by"]
    before = idp.stats()
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 3") == "3\n"
    assert idp.stats() == before, "a cached grant asks nobody"


def test_reload_keeps_what_waits(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, commands=DDL)
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE over_reload (a int)")
    person(idp, n)
    d.ctl("policy.reload")
    idp.decide("approve")
    assert "CREATE TABLE" in psql.communicate(timeout=15 * harness.SLOW)[0]
    assert len(idp.admin_call("/requests")) == n + 1


def test_authd_dies_while_a_person_is_asked(guarded, pg, idp):
    d = guarded({"oncall": ONCALL}, commands=DDL)
    n = len(idp.admin_call("/requests"))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE orphaned (a int)")
    person(idp, n)
    os.kill(d.children()["authd"], 9)
    out = psql.communicate(timeout=10 * harness.SLOW)[0]
    assert "identity provider cannot be reached" in out, out


def test_device_code_is_shown_to_the_client(guarded, pg, idp):
    d = guarded({"oncall": "{ by: device, scope: openid db.ddl, poll: 1s }"}, commands=DDL)
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE by_device (a int)")
    a = wait_for("the code", lambda: [x for x in d.ctl("approval.list") if x["code"]])[0]
    assert a["code"] in a["asked"] and a["uri"].startswith(idp.issuer), a
    idp.admin_call(f"/device/{a['code']}/approve", {"account": "alice"})
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "CREATE TABLE" in out and a["code"] in out, out


class Phone:
    """A browser as far as the provider's pages need one: it keeps cookies and sends forms."""

    def __init__(self):
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(jar)

    def open(self, url, **form):
        data = urllib.parse.urlencode(form).encode() if form else None
        with self.opener.open(url, data, timeout=10 * harness.SLOW) as page:
            self.url, self.text = page.url, page.read().decode()

    def send(self, **form):
        """The form of the page that is open, with what it has hidden."""
        action = html.unescape(re.search(r'<form[^>]* action="([^"]*)"', self.text).group(1))
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', self.text))
        self.open(urllib.parse.urljoin(self.url, action), **{**hidden, **form})


def test_the_story_of_an_alter(guarded, pg, idp):
    """The agent's psql is held and shows where to say yes; whoever is asked opens that page, types
    the code, logs in and agrees; the same psql prints its ALTER TABLE."""
    d = guarded({"oncall": "{ by: device, scope: openid db.ddl, poll: 1s }"}, commands=DDL)
    pg.sql("CREATE TABLE story (a int); ALTER TABLE story OWNER TO agent", db="shop")
    psql = d.popen(["stdbuf", "-oL", "psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent",
                    "-d", "shop", "-c", "ALTER TABLE story ADD b text"])
    notice = psql.stdout.readline()
    code = re.search(r"\b[A-Z]{4}-[A-Z]{4}\b", notice).group(0)
    phone = Phone()
    phone.open(re.search(r"https?://[^ ,;]+", notice).group(0))
    phone.send(user_code=code)
    assert code in phone.text, phone.text
    phone.send(user_code=code, confirm="yes")
    assert psql.poll() is None and d.ctl("approval.list"), "it went on without the answer"
    phone.send(login="alice", password="any")
    phone.send()  # what the page asks to agree to
    assert "Continue on your device" in phone.text or "success" in phone.text.lower(), phone.text
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "ALTER TABLE" in out.split("\n"), out
    assert pg.sql("SELECT b FROM story", db="shop") == ""


def test_a_way_that_needs_a_token_says_so(guarded, pg):
    d = guarded({"own": "{ by: introspection, scope: db.read }"}, access="own")
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "no workload token" in out, out


def test_an_issuer_of_assertions_without_a_provider(daemon, pg):
    """Its certificates are read before the sandbox; what is wrong with them is seen in status."""
    saml = "issuer: i, audience: a, recipient: r, certificate_file: "
    here = os.path.dirname(HERE) + "/unit/saml/idp.crt.pem"
    with tempfile.TemporaryDirectory() as t:
        os.chmod(t, 0o755)
        shutil.copy(here, f"{t}/idp.pem")
        lines = (f"approvals:\n  own: {{ by: saml, saml: {{ {saml}{t}/idp.pem }} }}\n"
                 f"  broken: {{ by: saml, saml: {{ {saml}{t}/none.pem }} }}\n")
        d = daemon(lines + policy(pg.port, access="own"), workers=1)
        assert "no workload token" in d.psql(pg.port, "-c", "SELECT 1")
        own, broken = wait_for("status to know", lambda: d.ctl("status")["approvals"])
        assert own["name"] == "own" and own["ok"] is True and own["certificates"] == 1, own
        assert broken["ok"] is False and "certificate_file" in broken["detail"], broken
        assert "none.pem cannot be used: No such file" in d.log()


class Pdp(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        status, answer = self.server.say(body)
        self.answer(status, answer)

    def do_GET(self):
        self.server.fetched.append(self.path)
        status, answer = self.server.metadata(self.server)
        self.answer(status, answer, location="http://127.0.0.1:9/")

    def answer(self, status, answer, **headers):
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def pdp():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pdp)
    server.asked, server.say = [], lambda body: (200, {"decision": True})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.point = f"http://127.0.0.1:{server.server_address[1]}"
    server.url = f"{server.point}/access/v1/evaluation"
    server.fetched = []
    server.metadata = lambda s: (200, {"policy_decision_point": s.point + "/tenant", "access_evaluation_endpoint":
                                       s.url})
    yield server
    server.shutdown()


def test_decision_point(guarded, pg, pdp):
    d = guarded({"oncall": f"{{ by: authzen, url: '{pdp.url}' }}"}, commands=DDL)
    assert "CREATE TABLE" in d.psql(pg.port, "-c", "CREATE TABLE by_pdp (a int)")
    q = pdp.asked[0]
    assert q["subject"]["id"] == "bot" and q["action"] == {"name": "ddl"}, q
    assert q["resource"]["id"] == "shop" and q["resource"]["properties"] == {"database": "shop"}, q
    assert q["context"]["statement"] == "CREATE TABLE by_pdp (a int)", q
    rows = [((200, {"decision": False}), "decision point refused"),
            ((200, {"decision": "true"}), "usable answer"), ((200, {}), "usable answer"),
            ((500, {"decision": True}), "usable answer"), ((204, {}), "usable answer")]
    for said, words in rows:
        pdp.say = lambda body, said=said: said
        assert words in d.psql(pg.port, "-c", "CREATE TABLE never_by_pdp (a int)"), words


def test_decision_point_tells_where_it_is_asked(guarded, pg, pdp):
    """Its metadata are fetched once, and believed only about itself."""
    d = guarded({"oncall": f"{{ by: authzen, decision_point: '{pdp.point}/tenant' }}"}, commands=DDL)
    good, other = pdp.metadata, f"http://127.0.0.1:{harness.free_port()}"

    def says(**more):
        return lambda s: (200, {**good(s)[1], **more})
    rows = [(says(policy_decision_point=pdp.point), "not of `" + pdp.point + "/tenant`"),
            (says(policy_decision_point=None), "not of"),
            (says(access_evaluation_endpoint=other + "/access"), "not on the decision point's own origin"),
            (says(access_evaluation_endpoint="http://pdp.example/"), "that is an https URL"),
            (says(access_evaluation_endpoint=None), "no `access_evaluation_endpoint`"),
            (lambda s: (404, {}), "HTTP 404"), (lambda s: (302, b""), "HTTP 302"),
            (lambda s: (200, b"<html>"), "no valid JSON"), (lambda s: (200, b"[" * 70000), "too large")]
    for metadata, words in rows:
        pdp.metadata = metadata
        assert "usable answer" in d.psql(pg.port, "-c", "CREATE TABLE never_told (a int)"), words
        s = wait_for("status to know", lambda: [x for x in d.ctl("status")["approvals"]
                                                if words in (x.get("detail") or "")])[0]
        assert s["ok"] is False and "url" not in s and s["decision_point"] == pdp.point + "/tenant", s
    assert pdp.asked == [] and set(pdp.fetched) == {"/.well-known/authzen-configuration/tenant"}
    pdp.metadata, n = good, len(pdp.fetched)
    psql = [d.psql_later(pg.port, "-c", f"CREATE TABLE told_{i} (a int)") for i in range(4)]
    for p in psql:
        assert "CREATE TABLE" in p.communicate(timeout=15 * harness.SLOW)[0]
    assert len(pdp.fetched) == n + 1 and len(pdp.asked) == 4
    s = wait_for("status to know", lambda: [x for x in d.ctl("status")["approvals"] if x.get("ok")])[0]
    assert s["url"] == pdp.url, s
    out = subprocess.run([f"{harness.BUILD}/tidegate", "-c", d.config_path, "status"], capture_output=True, text=True)
    assert f"oncall by authzen, {pdp.point}/tenant: ok" in out.stdout, out


def test_a_grant_is_for_what_was_asked(guarded, pg, pdp):
    """Who said yes to one database said nothing about another, nor about another user."""
    d = guarded({"oncall": f"{{ by: authzen, url: '{pdp.url}' }}"}, access="{ approval: oncall }")
    pdp.say = lambda body: (200, {"decision": body["resource"]["properties"]["database"] == "shop" and
                                  body["subject"]["properties"]["user"] == "agent"})
    for _ in range(2):
        assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
    assert len(pdp.asked) == 1, "a grant asks nobody"
    for who in ({"db": "postgres"}, {"user": "postgres"}):
        assert "decision point refused" in d.psql(pg.port, "-c", "SELECT 1", **who), who
    assert [(g["user"], g["database"]) for g in d.ctl("grant.list")] == [("agent", "shop")]


LONG = "SELECT 1 -- " + "harmless " * 2000 + "\n; CREATE TABLE hidden_behind (a int)"
SHOWN = [
    (LONG.encode(), f"[Tidegate: cut; {len(LONG) - 8112} more bytes are not shown]"),
    (("CREATE TABLE " + "\u20ac" * 5000 + " (a int)").encode(), "more bytes are not shown]"),
    (b"SET client_encoding = 'latin1'; CREATE TABLE caf\xe9 (a int)", "caf? (a int)"),
]


@pytest.mark.parametrize("row", range(len(SHOWN)))
def test_approvers_see_what_they_do_not_see(daemon, pg, row):
    """A text that is long or not UTF-8 is listed like others, and says that it is cut."""
    text, ending = SHOWN[row]
    d = daemon(policy(pg.port, access="none", commands=["{ effect: ddl, do: approve }",
                                                        "{ effect: any, do: allow }"]), workers=1)
    with open(f"{d.dir}/script.sql", "wb") as f:
        f.write(text)
    os.chmod(f.name, 0o644)
    psql = d.popen(["sh", "-c", f"exec psql -X -h 127.0.0.1 -p {pg.port} -U agent -d shop "
                    f"-c \"$(cat {f.name})\""])
    try:
        a = d.approval()
        assert a["text"].endswith(ending), a["text"][-200:]
        assert len(a["text"].encode()) <= 8192
    finally:
        psql.kill()
        psql.communicate()


def test_a_person_and_then_a_decision_point(guarded, pg, idp, pdp):
    d = guarded({"oncall": ONCALL.replace("poll", "then: pdp, poll"),
                 "pdp": f"{{ by: authzen, url: '{pdp.url}' }}"}, commands=DDL)
    for decision, words in ((True, "CREATE TABLE"), (False, "decision point refused")):
        pdp.say = lambda body, decision=decision: (200, {"decision": decision})
        n = len(idp.admin_call("/requests"))
        psql = d.psql_later(pg.port, "-c", f"CREATE TABLE both_{decision} (a int)")
        person(idp, n)
        idp.decide("approve")
        assert words in psql.communicate(timeout=15 * harness.SLOW)[0]
