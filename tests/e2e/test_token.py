# SPDX-License-Identifier: MIT
"""Agents' own workload tokens, read where the agents are, and rules about who asks."""
import base64
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import harness
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from harness import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
AUDIENCE = "tidegate"
PSQL = os.path.realpath(subprocess.run(["sh", "-c", "ls /usr/lib/postgresql/*/bin/psql | tail -1"],
                                       capture_output=True, text=True).stdout.strip())


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """As a cluster or SPIRE publishes it: discovery with nothing but keys."""

    def __init__(self):
        self.keys = {}
        self.calls = []
        self.new_key("one")
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.calls.append(self.path)
                doc = issuer.document(self.path)
                body = json.dumps(doc).encode()
                self.send_response(200 if doc else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, path):
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": self.url + "/keys",
                    "response_types_supported": ["id_token"]}
        if path != "/keys":
            return None
        return {"keys": [self.jwk(kid) for kid in self.keys]}

    def new_key(self, kid):
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}
        self.kid = kid

    def jwk(self, kid):
        n = self.keys[kid].public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
                "x": b64(n.x.to_bytes(32, "big")), "y": b64(n.y.to_bytes(32, "big"))}

    def token(self, ttl=300, key=None, **claims):
        now = int(time.time())
        body = {"iss": self.url, "aud": [AUDIENCE], "sub": "spiffe://example.org/agent/bot",
                "iat": now, "exp": now + ttl, "jti": os.urandom(6).hex(), **claims}
        head = {"alg": "ES256", "kid": self.kid, "typ": "JWT"}
        signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
        r, s = decode_dss_signature((key or self.keys[self.kid]).sign(
            signed.encode(), ec.ECDSA(hashes.SHA256())))
        return signed + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@pytest.fixture(scope="module")
def issuer():
    it = Issuer()
    yield it
    it.server.shutdown()


@pytest.fixture
def place():
    """A folder that the agent's file lies in, in nobody's way."""
    path = tempfile.mkdtemp(prefix="tidegate-token-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


def entry(commands="[{ effect: any, do: allow }]", when=None, access="{ approval: none }"):
    return (f"  - agents: [bot]\n    targets: [shop]\n    access: {access}\n"
            + (f"    when: {when}\n" if when else "") + f"    commands: {commands}\n")


def config(pg, token, *entries, head=""):
    return (head + f"agents:\n  bot: {{ cgroup: $CGROUP{', token: ' + token if token else ''} }}\n"
            f'targets:\n  shop: {{ address: "127.0.0.1:{pg.port}", protocol: postgresql }}\n'
            "policy:\n" + "".join(entries))


def token_at(issuer, where):
    return (f"{{ {where}, issuer: '{issuer.url}', audience: {AUDIENCE}, "
            "algorithms: [ES256], allow_http: true }")


BOT = '{ token: { sub: "spiffe://example.org/agent/*" } }'
SELECT = ("-A", "-t", "-c", "SELECT 7")


def start_of(d):
    """The first record of the last recording, with the facts in it unpacked."""
    text = d.record_text().decode(errors="replace")
    at = text.rindex('"facts":')
    value, _ = json.JSONDecoder().raw_decode(text[at + len('"facts":'):])
    return json.loads(value)


def nothing_of(d, *tokens):
    everything = d.record_text() + d.log().encode()
    with open(f"{d.dir}/state/audit.jsonl", "rb") as f:
        everything += f.read()
    assert b"eyJ" not in everything
    for token in tokens:
        assert token.split(".")[2].encode() not in everything


def write(path, text, mode=0o644):
    with open(path, "w") as f:
        os.fchmod(f.fileno(), mode)
        f.write(text)


def test_a_token_lets_in(daemon, pg, issuer, place):
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    token = issuer.token()
    write(f"{place}/token", token + "\n")
    assert d.psql(pg.port, *SELECT) == "7\n"
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(20)")
    s = wait_for("the session", lambda: [x for x in d.ctl("session.list") if x["state"] == "run"])[0]
    s = d.ctl("session.show", id=s["id"])
    psql.kill()
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert s["token"]["sha256"] == digest and s["token"]["refused"] is None, s
    assert s["token"]["claims"]["sub"] == "spiffe://example.org/agent/bot", s
    assert s["exe"] == PSQL and s["exe_inode"] == os.stat(PSQL).st_ino and s["started_boot_ns"], s
    psql.wait()
    wait_for("the record", lambda: d.record_text().count(b'"facts"') == 2)
    facts = start_of(d)
    assert facts["token"]["claims"] == s["token"]["claims"], facts
    assert facts["token"]["sha256"] == digest and facts["pid"] == psql.pid, facts
    assert set(facts["token"]["claims"]) == {"iss", "sub", "aud", "jti", "exp", "iat"}
    assert issuer.calls.count("/keys") == 1, "the keys are fetched once"
    nothing_of(d, token)


def test_without_a_good_one_nobody_gets_in(daemon, pg, issuer, place):
    """Each row: what stands in the file, and what the operator is told."""
    other = Issuer()
    stranger = ec.generate_private_key(ec.SECP256R1())
    now = int(time.time())
    rows = [
        (None, "it is not there"), ("", "it is empty"), ("x" * 20000, "longer than 16 KiB"),
        ("secret-that-is-no-jwt", "no signed JWT"),
        (issuer.token(ttl=-100), "expired"),
        (issuer.token(nbf=now + 1000), "valid only in"),
        (issuer.token(iat=now + 1000), "in the future"),
        (issuer.token(aud=["somebody-else"]), "audience"),
        (issuer.token(iss="https://evil.example"), "issuer is `https://evil.example`"),
        (other.token(), "issuer is"),
        (issuer.token(key=stranger), "signature is wrong"),
        (issuer.token(exp=None), "no valid expiry"),
        (issuer.token(cnf={"jkt": "abc"}), "bound to a key"),
        (issuer.token(sub=""), "no subject"),
    ]
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    for text, words in rows:
        if text is not None:
            write(f"{place}/token", text)
        out = d.psql(pg.port, *SELECT)
        assert "no workload token" in out and "7\n" not in out, (words, out)
        assert words in d.log(), (words, d.log()[-2000:])
    write(f"{place}/token", issuer.token())
    assert d.psql(pg.port, *SELECT) == "7\n"
    other.server.shutdown()
    wait_for("the record", lambda: b"no_token" in d.record_text())
    nothing_of(d)
    assert "secret-that-is-no-jwt" not in d.log()


def test_a_session_that_needs_no_token(daemon, pg, issuer, place):
    """An entry that is not known to apply makes things only stricter."""
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"),
                      entry("[{ effect: ddl, do: deny }, { effect: any, do: allow }]"),
                      entry("[{ effect: write, do: deny }, { effect: any, do: allow }]", when=BOT)),
               workers=1)
    assert d.psql(pg.port, *SELECT) == "7\n"
    write_it = ("-c", "INSERT INTO notes (body) VALUES ('x')")
    assert "is denied by policy[1]" in d.psql(pg.port, *write_it)
    write(f"{place}/token", issuer.token(sub="spiffe://example.org/other"))
    assert "INSERT 0 1" in d.psql(pg.port, *write_it)


def test_claims(daemon, pg, issuer, place):
    when = ('{ token: { claims: { env: [prod, stage], level: 3, admin: true, groups: dba, '
            '"kubernetes.io/namespace": shop } } }')
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=when)), workers=1)
    good = {"env": "stage", "level": 3, "admin": True, "groups": ["x", "dba"],
            "kubernetes.io": {"namespace": "shop"}, "private": "not-for-the-record"}
    write(f"{place}/token", issuer.token(**good))
    assert d.psql(pg.port, *SELECT) == "7\n"
    wait_for("the record", lambda: b'"facts"' in d.record_text())
    assert "private" not in start_of(d)["token"]["claims"]
    for bad in ({"env": "dev"}, {"level": "4"}, {"admin": False}, {"groups": ["db"]},
                {"kubernetes.io": {"namespace": "shop2"}}, {"env": None}):
        write(f"{place}/token", issuer.token(**{**good, **bad}))
        assert "access to target" in d.psql(pg.port, *SELECT), bad


def test_tokens_rotate_and_keys_too(daemon, pg, issuer, place):
    when = '{ token: { sub: "spiffe://example.org/agent/[12]" } }'.replace("[12]", "?")
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=when)), workers=1)
    write(f"{place}/token", issuer.token(sub="spiffe://example.org/agent/1"))
    assert d.psql(pg.port, *SELECT) == "7\n"
    issuer.new_key("two")
    write(f"{place}/token", issuer.token(sub="spiffe://example.org/agent/2"))
    assert d.psql(pg.port, *SELECT) == "7\n"
    wait_for("two records", lambda: d.record_text().count(b'"facts"') == 2)
    subs = d.record_text().count(b"spiffe://example.org/agent/")
    assert subs == 2, subs
    write(f"{place}/token", issuer.token(sub="spiffe://example.org/agent/33"))
    assert "access to target" in d.psql(pg.port, *SELECT)


def in_namespace(d, setup, port, *args):
    """psql in a mount namespace of its own, as the agent."""
    psql = f"psql -X -h 127.0.0.1 -p {port} -U agent -d shop -A -t -c 'SELECT 7'"
    return d.run(["unshare", "-m", "sh", "-c", f"{setup}; exec {psql}"]).stdout


def test_the_agents_own_mount_namespace(daemon, pg, issuer, place):
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    write(f"{place}/token", "this is the host's")
    token = issuer.token()
    setup = f"mount -t tmpfs none {place}; echo {token} >{place}/token"
    assert in_namespace(d, setup, pg.port) == "7\n"
    assert "no workload token" in d.psql(pg.port, *SELECT)


def test_files_that_are_not_read(daemon, pg, issuer, place):
    """Links lead nowhere outside, and nothing that could hang or act is opened."""
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    token = issuer.token()
    write(f"{place}/real", token)
    at = f"{place}/token"
    good = [f"ln -s {place}/real {at}", f"ln -s real {at}",
            # As Kubernetes projects it.
            f"mkdir {place}/..data; cp {place}/real {place}/..data/token; ln -s ..data/token {at}"]
    bad = [(f"mkfifo {at}", "no regular file"), (f"mkdir {at}", "no regular file"),
           (f"mknod {at} c 1 5", "no regular file"), (f"ln -s /dev/zero {at}", "no regular file"),
           (f"ln -s token {at}", "link"), (f"ln -s /proc/self/fd/0 {at}", "link"),
           (f"ln -s /proc/1/root{place}/real {at}", "link")]
    for setup in good:
        assert in_namespace(d, f"mount -t tmpfs none {place}; echo {token} >{place}/real; {setup}",
                            pg.port) == "7\n", setup
    for setup, words in bad:
        begun = time.monotonic()
        out = in_namespace(d, f"mount -t tmpfs none {place}; echo {token} >{place}/real; {setup}",
                           pg.port)
        assert "no workload token" in out, (setup, out)
        assert words in d.log(), (setup, words)
        assert time.monotonic() - begun < 3 * harness.SLOW, setup
    # A root of its own: what is above it does not exist, and links are resolved inside.
    jail = f"{place}/jail"
    os.makedirs(jail)
    write(f"{place}/token", token, 0o600)
    out = d.run(["unshare", "-m", "sh", "-c",
                 f"mount --rbind / {jail}; mount -t tmpfs none {jail}{place}; "
                 f"ln -s ../../../../../..{place}/token {jail}{place}/token; "
                 f"exec chroot {jail} psql -X -h 127.0.0.1 -p {pg.port} -U agent -d shop -c "
                 "'SELECT 7'"]).stdout
    assert "no workload token" in out, out


def test_read_as_the_agents_user(daemon, pg, issuer, place):
    """A file that the agent may not read is not read for it, though the daemon could."""
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    write(f"{place}/token", issuer.token(), 0o600)
    sql = ["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d", "shop", *SELECT]
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    assert "no workload token" in d.run(nobody + sql, cwd="/").stdout
    assert "own user may not read it" in d.log()
    os.chown(f"{place}/token", 0, 4242)
    os.chmod(f"{place}/token", 0o640)
    group = nobody[:-1] + ["--groups", "4242"]
    assert d.run(group + sql, cwd="/").stdout == "7\n", "a group of its own opens it"
    os.chown(f"{place}/token", 65534, 0)
    os.chmod(f"{place}/token", 0o600)
    assert d.run(nobody + sql, cwd="/").stdout == "7\n"
    # Root without capabilities owns nothing of others.
    assert "no workload token" in d.run(sql, cwd="/").stdout


def test_environment(daemon, pg, issuer, place):
    d = daemon(config(pg, token_at(issuer, "env: AGENT_TOKEN"), entry(when=BOT)), workers=1)
    token = issuer.token()
    sql = ["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d", "shop", *SELECT]
    env = dict(os.environ, MY_AGENT_TOKEN="wrong", AGENT_TOKEN_2="wrong", AGENT_TOKEN=token)
    assert d.run(sql, env=env).stdout == "7\n"
    assert "no workload token" in d.run(sql, env=dict(os.environ)).stdout
    assert "environment variable AGENT_TOKEN: it is not there" in d.log()
    assert "no workload token" in d.run(sql, env=dict(os.environ, AGENT_TOKEN="")).stdout
    nothing_of(d, token)


def test_kernel_facts(daemon, pg, place):
    """The program by path and digest, and the uid; a copy of the program is another path."""
    digest = hashlib.sha256(open(PSQL, "rb").read()).hexdigest()
    d = daemon(config(pg, None,
                      entry("[{ effect: read, do: allow }]",
                            when=f"{{ exe: {PSQL}, exe_sha256: '{digest}', uid: [0, 12] }}")), workers=1)
    sql = ["-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d", "shop", *SELECT]
    assert d.run([PSQL] + sql).stdout == "7\n"
    wait_for("the record", lambda: b'"facts"' in d.record_text())
    assert start_of(d)["exe_sha256"] == digest
    copy = f"{place}/psql"
    shutil.copy(PSQL, copy)
    assert "access to target" in d.run([copy] + sql).stdout
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    assert "access to target" in d.run(nobody + [PSQL] + sql, cwd="/").stdout
    # The same bytes elsewhere, by digest alone; then others in the same place.
    harness.reload_with(d, f"exe: {PSQL}, ", "")
    assert d.run([copy] + sql).stdout == "7\n"
    with open(copy, "ab") as f:
        f.write(b"\0")
    assert "access to target" in d.run([copy] + sql).stdout


def test_reload_ends_who_is_not_allowed_any_more(daemon, pg, issuer, place):
    d = daemon(config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)), workers=1)
    write(f"{place}/token", issuer.token())
    psql = d.popen(["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
                    "shop"], stdin=subprocess.PIPE)
    wait_for("the session", lambda: d.ctl("session.list"))
    d.ctl("policy.reload")
    time.sleep(0.3)
    assert len(d.ctl("session.list")) == 1, "still allowed"
    harness.reload_with(d, "spiffe://example.org/agent/*", "spiffe://example.org/none")
    wait_for("its end", lambda: not d.ctl("session.list"))
    psql.communicate("SELECT 1;\n", timeout=10)


# ------------------------------------------------- ways that ask about the agent's own token

IDP = """idp:
  issuer: {issuer}
  allow_http: true
  timeout: 2s
  audience: https://db.example/es256
  resource: https://db.example/es256
  details_type: agent_access
  client: {{ id: basic, auth: client_secret_basic, secret_file: $DIR/secret }}
approvals:
  exchange: {{ by: token_exchange, scope: db.read }}
  introspect:
    {{ by: introspection, scope: db.read, details: false, audience: "https://db.example/opaque" }}
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
def asking(daemon, pg, idp, place, monkeypatch):
    def make(*entries):
        original = harness.Daemon.write_config

        def with_secret(self, text):
            write(f"{self.dir}/secret", "basic-secret", 0o600)
            original(self, text)
        monkeypatch.setattr(harness.Daemon, "write_config", with_secret)
        return daemon(config(pg, f"{place}/token", *entries, head=IDP.format(issuer=idp.issuer)),
                      workers=1)
    return make


def test_token_exchange(asking, pg, idp, place):
    d = asking(entry(access="{ approval: exchange, max: 60s }"))
    assert "no workload token" in d.psql(pg.port, *SELECT)
    token = idp.token(scope="db.read")
    write(f"{place}/token", token)
    before = idp.stats().get("/token", 0)
    assert d.psql(pg.port, *SELECT) == "7\n"
    assert idp.stats()["/token"] == before + 1
    assert d.psql(pg.port, *SELECT) == "7\n"
    assert idp.stats()["/token"] == before + 1, "the grant serves the same token"
    g = d.ctl("grant.list")
    assert len(g) == 1 and g[0]["via"] == "exchange" and "alice" in g[0]["by"], g
    # Another token is another matter: it is asked about.
    write(f"{place}/token", idp.token(scope="db.write"))
    assert "provider refused" in d.psql(pg.port, *SELECT)
    assert idp.stats()["/token"] == before + 2
    write(f"{place}/token", idp.token(scope="db.read", ttl=-5))
    assert "7\n" != d.psql(pg.port, *SELECT)
    nothing_of(d, token)


def test_introspection_and_revocation(asking, pg, idp, place):
    """Each statement asks whether the token is still good: it rotates and is revoked meanwhile."""
    d = asking(entry("[{ effect: any, do: approve, approval: introspect }]"))
    like = {"scope": "db.read", "resource": "https://db.example/opaque"}
    token, opaque = idp.token(**like), idp.token(account="bob", **like)
    write(f"{place}/token", token)
    assert d.psql(pg.port, *SELECT) == "7\n", d.log()
    write(f"{place}/token", opaque)
    psql = d.popen(["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
                    "shop", "-A", "-t"], stdin=subprocess.PIPE)
    psql.stdin.write("SELECT 1;\n")
    psql.stdin.flush()
    assert psql.stdout.readline() == "1\n", d.log()
    idp.admin_call("/revoke", {"token": opaque})
    psql.stdin.write("SELECT 2;\n")
    psql.stdin.flush()
    assert "identity provider" in psql.stdout.readline()
    write(f"{place}/token", token)
    out = psql.communicate("SELECT 3;\n", timeout=20)[0]
    assert "3\n" in out, "the one that is there now is asked about: " + out
    wait_for("the record", lambda: b'"by":"idp: bob' in d.record_text())
    everything = d.record_text() + d.log().encode()
    assert opaque.encode() not in everything and b"eyJ" not in everything


def test_statement_without_a_token(asking, pg, idp, place):
    d = asking(entry("[{ effect: read, do: approve, approval: exchange }, { effect: any, do: allow }]"))
    out = d.psql(pg.port, "-c", "SELECT 1", "-c", "CREATE TABLE without_token (a int)")
    assert "no workload token" in out and "CREATE TABLE" in out, out
    assert "it is not there" in d.log()


def test_status_and_metrics_tell_about_issuers(daemon, pg, place):
    """One that answers and then does not, one that nobody has asked yet: since when, what to do."""
    issuer = Issuer()
    text = config(pg, token_at(issuer, f"file: {place}/token"), entry(when=BOT)).replace(
        "agents:\n", "agents:\n  idle: { uid: [64998], token: { file: /x, issuer: 'http://127.0.0.1:9', "
        "audience: x, allow_http: true } }\n", 1)
    d = daemon(text, workers=1)

    def issuers():
        return {o["issuer"]: o for o in d.ctl("status")["token_issuers"]}

    def metrics():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{d.dir}/run/metrics.sock")
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()
    one = wait_for("status", lambda: issuers().get(issuer.url))
    assert "ok" not in one and one["agents"] == ["bot"], one
    assert issuers()["http://127.0.0.1:9"]["agents"] == ["idle"]
    assert 'kind="token"' not in metrics(), "nobody has asked: neither up nor down"
    write(f"{place}/token", issuer.token())
    assert d.psql(pg.port, *SELECT) == "7\n"
    one = wait_for("its keys", lambda: issuers()[issuer.url].get("keys") and issuers()[issuer.url])
    assert one["keys"] == 1 and one["keys_age_ms"] < 60_000 and one["ok"] and one["since"], one
    assert 'tidegate_service_up{kind="token",name="bot"} 1' in metrics()
    assert 'tidegate_service_keys_age_seconds{kind="token",name="bot"} ' in metrics()
    # It is gone when a key that is not known makes the set be fetched anew.
    issuer.server.shutdown()
    issuer.server.server_close()
    issuer.new_key("two")
    write(f"{place}/token", issuer.token())
    assert "no workload token" in d.psql(pg.port, *SELECT)
    one = wait_for("the error", lambda: issuers()[issuer.url].get("last_error") and issuers()[issuer.url])
    assert "the provider's keys" in one["detail"] and one["todo"] and one["last_error_at"], one
    out = subprocess.run([f"{harness.BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", "status"],
                         capture_output=True, text=True, check=True).stdout
    assert f"bot by {issuer.url}: ok, 1 keys, fetched " in out and "idle by http://127.0.0.1:9\n" in out
    assert "last error: the provider's keys: " in out and "check that the provider runs" in out, out
