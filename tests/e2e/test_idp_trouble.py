# SPDX-License-Identifier: MIT
"""An identity provider in every kind of trouble: denied, told, and nobody else's concern."""
import datetime
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import time

import harness
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import BUILD, wait_for
from idp_stub import Stub, respond, section
from test_ending import finished, receipts
from test_lease import BUSY, WAITS, agent
from test_recheck import secret  # noqa: F401

CONFIG = """agents:
  bot: {{ cgroup: $CGROUP }}
targets:
  shop: {{ address: "127.0.0.1:{port}", protocol: postgresql }}
  free: {{ address: "[::1]:{port}", protocol: postgresql }}
policy:
  - agents: [bot]
    targets: [shop]
    access: {{ approval: idp, scope: db.read, max: {max} }}
    commands: [ {{ effect: any, do: allow }} ]
  - agents: [bot]
    targets: [free]
    access: {{ approval: none }}
    commands: [ {{ effect: any, do: allow }} ]
"""


@pytest.fixture
def troubled(daemon, pg, secret):  # noqa: F811
    def make(stub=None, max_="5m", **more):
        stub = stub or Stub()
        d = daemon(section(stub, secret, **{"timeout": "1s", **more}) +
                   CONFIG.format(port=pg.port, max=max_), workers=1)
        d.stub = stub
        return d
    return make


def shop(d, pg):
    return d.popen(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent",
                    "-d", "shop", "-c", "SELECT 'let' || 'in'"])


def free(d, pg):
    return d.run(["psql", "-X", "-A", "-t", "-h", "::1", "-p", str(pg.port), "-U", "agent",
                  "-d", "shop", "-c", "SELECT 'let' || 'in'"]).stdout


def lets_in(d, pg):
    return "letin" in shop(d, pg).communicate(timeout=30 * harness.SLOW)[0]


def drop(stub, conn, form):
    return None


def reset(stub, conn, form):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def silent(stub, conn, form):
    time.sleep(5)


def half_closed(stub, conn, form):
    conn.shutdown(socket.SHUT_WR)
    time.sleep(3)


def endless_headers(stub, conn, form):
    conn.sendall(b"HTTP/1.1 200 OK\r\n")
    for i in range(1 << 22):
        conn.sendall(b"x-more-%d: %s\r\n" % (i, b"y" * 512))


def dripping_headers(stub, conn, form):
    conn.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(50):
        conn.sendall(b"x: y\r\n")
        time.sleep(0.1)


def endless_body(stub, conn, form):
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":\"")
    while True:
        conn.sendall(b"y" * 65536)


def cut_body(stub, conn, form):
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"access"


def elsewhere(stub, conn, form):
    other = Stub()
    stub.others = getattr(stub, "others", []) + [other]
    return respond(307, b"", extra=f"location: {other.url}/token\r\n")


def at(path, fault):
    return lambda stub: stub.faults.__setitem__(path, fault)


def both(*setups):
    def run(stub):
        for s in setups:
            s(stub)
    return run


def claims(**kw):
    return lambda stub: stub.claims.update({k: v() if callable(v) else v for k, v in kw.items()})


def fixed(status, body, kind="application/json"):
    return lambda s, c, f: respond(status, body, kind)


def soon(seconds):
    return lambda: int(time.time()) + seconds


DISCOVERY, TOKEN, KEYS = "/.well-known/openid-configuration", "/token", "/keys"
BAD, UNREACHABLE, TIMEOUT = "idp_bad_answer", "idp_unreachable", "idp_timeout"
CASES = {  # name: (what is wrong, the reason, words of `last_error`)
    "down": (lambda s: s.down(), UNREACHABLE, ""),
    "drops": (at(TOKEN, drop), UNREACHABLE, "token endpoint"),
    "resets": (at(DISCOVERY, reset), UNREACHABLE, ""),
    "slow": (at(TOKEN, silent), TIMEOUT, "token endpoint"),
    "slow discovery": (at(DISCOVERY, silent), TIMEOUT, ""),
    "half-closed": (at(TOKEN, half_closed), UNREACHABLE, "token endpoint"),
    "endless headers": (at(TOKEN, endless_headers), None, "token endpoint"),
    "dripping headers": (at(TOKEN, dripping_headers), TIMEOUT, "token endpoint"),
    "endless body": (at(TOKEN, endless_body), BAD, "too large"),
    "endless discovery": (at(DISCOVERY, endless_body), BAD, "too large"),
    "enormous": (at(TOKEN, fixed(200, b'{"access_token":"' + b"x" * (4 << 20) + b'"}')), BAD,
                 "too large"),
    "cut body": (at(TOKEN, cut_body), None, "token endpoint"),
    "503": (at(TOKEN, fixed(503, b"")), UNREACHABLE, "503"),
    "429": (at(TOKEN, fixed(429, b"")), UNREACHABLE, "429"),
    "html": (at(TOKEN, fixed(200, b"<html>Welcome</html>", "text/html")), BAD, ""),
    "malformed": (at(TOKEN, fixed(200, b'{"access_token": "a", ')), BAD, ""),
    "duplicate members": (at(TOKEN, fixed(
        200, b'{"access_token":"a.b.c","access_token":"d.e.f","token_type":"Bearer"}')), BAD, ""),
    "malformed discovery": (at(DISCOVERY, fixed(200, b"[]")), BAD, ""),
    "malformed keys": (at(KEYS, fixed(200, b'{"keys": 5}')), BAD, ""),
    "no keys": (at(KEYS, fixed(200, {"keys": []})), BAD, ""),
    "redirect": (at(TOKEN, elsewhere), BAD, "redirect"),
    "redirect of discovery": (at(DISCOVERY, elsewhere), BAD, ""),
    "another issuer": (lambda s: setattr(s, "issuer", "http://127.0.0.1:9"), BAD, "issuer"),
    "token of another issuer": (claims(iss="https://evil.example"), BAD, "issuer"),
    "endpoint elsewhere": (at(DISCOVERY, lambda s, c, f: respond(
        200, s.discovery(token_endpoint="http://127.0.0.1:9/token"))), BAD, ""),
    "audience": (claims(aud="another"), BAD, "audience"),
    "its clock is ahead: iat": (claims(iat=soon(3600), exp=soon(7200)), BAD, ""),
    "its clock is ahead: nbf": (claims(nbf=soon(3600)), BAD, ""),
    "its clock is behind": (lambda s: setattr(s, "skew", -3600), BAD, "expired"),
    "a key that it does not publish": (both(at(KEYS, lambda s, c, f: respond(
        200, {"keys": [Stub.jwk(s, s.kid) | {"kid": "other"}]}))), BAD, "key"),
}


def told(d, words):
    state = wait_for("the state", lambda: [s for s in [d.ctl("status")["idp"]]
                                           if s.get("last_error")])[0]
    assert state["last_error_at"] and state["todo"], state
    assert words in state["last_error"], state
    return state


@pytest.mark.parametrize("name", CASES)
def test_denied_told_and_over(troubled, pg, name):
    setup, reason, words = CASES[name]
    d = troubled()
    issuer = d.stub.issuer
    setup(d.stub)
    asking = shop(d, pg)
    start = time.monotonic()
    assert free(d, pg) == "letin\n"
    assert time.monotonic() - start < 1 + 0.3 * BUSY
    out = asking.communicate(timeout=30 * harness.SLOW)[0]
    assert time.monotonic() - start < 4 + BUSY
    assert "letin" not in out and "access denied: " in out, out
    counted = [k for k, v in d.counters().items() if k.startswith("idp_") and v]
    assert len(counted) == 1 and reason in (None, counted[0]), counted
    state = told(d, words)
    assert state["issuer"] == issuer
    if reason in (UNREACHABLE, TIMEOUT):
        assert state["state"] == "down" and state["since"] and state["failures"] >= 1, state
    text = subprocess.run([f"{BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", "status"],
                          capture_output=True, text=True).stdout
    assert issuer in text and state["todo"][:30] in text, text
    assert not getattr(d.stub, "others", []) or not d.stub.others[0].calls, "redirect was followed"
    # Nothing of it stays when it is over.
    d.stub.faults.clear()
    d.stub.claims.clear()
    d.stub.issuer, d.stub.skew = issuer, 0
    if name == "down":
        d.stub.up()
    wait_for("access", lambda: lets_in(d, pg), 40, 0.5)


def test_flapping(troubled, pg):
    """Every other request fails: who is let in was granted, who is not was told, nothing hangs."""
    d = troubled(max_="1s")
    turn = []
    d.stub.faults[TOKEN] = lambda s, c, f: (turn.append(1) or
                                            (None if len(turn) % 2 else s.answer(TOKEN, f)))
    seen = set()
    end = time.monotonic() + 40 * harness.SLOW
    while len(seen) < 2 and time.monotonic() < end:
        start = time.monotonic()
        out = shop(d, pg).communicate(timeout=20 * harness.SLOW)[0]
        assert time.monotonic() - start < 3 + BUSY
        assert "letin" in out or "access denied" in out, out
        seen.add("letin" in out)
        assert free(d, pg) == "letin\n"
        time.sleep(0.5)
    assert seen == {True, False}


def test_a_cached_grant_lives_to_its_own_end_and_no_longer(troubled, pg):
    d = troubled(max_="6s")
    p = agent(d, WAITS, pg.port)
    assert p.stdout.readline() == "in\n"
    d.stub.down()
    assert lets_in(d, pg)  # by the grant
    out = p.stdout.readline()
    assert "granted time is over" in out and float(out.split()[-1]) < 6 + 0.3 * BUSY, out
    assert not lets_in(d, pg)
    assert free(d, pg) == "letin\n"


def test_break_glass_while_the_provider_is_down(troubled, pg):
    """Root's word lets in without it, is signed into the recording, and is loud as long as it holds."""
    d = troubled()
    d.stub.down()
    assert not lets_in(d, pg)
    grant = d.ctl("grant.create", agent="bot", target="shop", for_ms=20000, reason="provider is down")["id"]
    assert lets_in(d, pg)
    assert [w for w in d.ctl("status")["warnings"] if "BREAK-GLASS" in w and "provider is down" in w]
    assert "BREAK-GLASS" in d.log() and "provider is down" in d.log()
    body, = [b for path in finished(d, 2) for _, b in receipts(path) if b["decision"] == "allow"]
    assert (body["what"], body["via"], body["detail"], body["grant"]) == (
        "grant", "break-glass", "provider is down", grant), body
    with open(f"{d.dir}/state/audit.jsonl") as f:
        assert [x for x in map(json.loads, f) if x["event"] == "grant.new" and x["grant"] == grant
                and x["via"] == "break-glass"]
    d.ctl("grant.revoke", id=grant)
    assert not lets_in(d, pg) and not [w for w in d.ctl("status")["warnings"] if "BREAK-GLASS" in w]


def test_rotated_keys(troubled, pg):
    d = troubled(max_="1s")
    assert lets_in(d, pg)
    d.stub.new_key("two")
    time.sleep(1.5)
    assert lets_in(d, pg)
    assert d.stub.calls[KEYS] == 2


# ------------------------------------------------------------------------ TLS


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def authority(path, name="stub CA"):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(name_of(name)).issuer_name(name_of(name))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256()))
    with open(path, "wb") as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM))
    os.chmod(path, 0o644)
    return key


def server_side(ca, folder, address="127.0.0.1", days=(-1, 1), signer="stub CA"):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(name_of("stub")).issuer_name(name_of(signer))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(address))]), False)
            .sign(ca, hashes.SHA256()))
    path = f"{folder}/server.pem"
    with open(path, "wb") as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM))
        f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                  serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


TLS = {"expired": {"days": (-2, -1)}, "not yet valid": {"days": (1, 2)}, "wrong name": {"address": "127.0.0.2"},
       "unknown CA": {"signer": "another CA"}, "CA of the same name": {}}


@pytest.mark.parametrize("what", ["right", *TLS])
def test_tls(troubled, pg, secret, what):  # noqa: F811
    folder = os.path.dirname(secret)
    ca_file = f"{folder}/ca.pem"
    key = authority(ca_file)
    other = authority(f"{folder}/other.pem", TLS[what].get("signer", "stub CA")) \
        if "CA" in what else key
    try:
        stub = Stub(tls=server_side(other, folder, **TLS.get(what, {})))
        d = troubled(stub, ca_file=ca_file)
        asking = shop(d, pg)
        assert free(d, pg) == "letin\n"
        out = asking.communicate(timeout=30 * harness.SLOW)[0]
        if what == "right":
            assert "letin" in out, out
            return
        assert "letin" not in out and "access denied: " in out, out
        state = told(d, "" if what == "CA of the same name" else "certificate")
        assert state["state"] == "down" and state["issuer"] == stub.issuer
        assert "ca_file" in state["todo"], state
        assert sum(stub.calls.values()) == 0, "nothing was said to it"
    finally:
        for name in os.listdir(folder):
            if name.endswith(".pem"):
                os.unlink(f"{folder}/{name}")
