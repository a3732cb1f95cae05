# SPDX-License-Identifier: MIT
"""An identity provider that does as it is told: right, wrong, late, or not at all."""
import base64
import collections
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SECRET = "stub-secret"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def respond(status=200, body=b"", kind="application/json", extra=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return (f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            f"{extra}connection: close\r\n\r\n").encode() + body


class Stub:
    """Each request is a connection; `faults` has what a path does instead of its duty."""

    def __init__(self, tls=None, opaque=False):
        self.calls = collections.Counter()
        self.asked = collections.defaultdict(list)   # by path: (headers, form) of each request
        self.faults = {}   # path: function(Stub, conn, form) that returns bytes, or None: it has done it
        self.opaque = opaque
        self.active = True   # what introspection says
        self.skew = 0        # of its clock
        self.claims = {}     # of tokens, besides or instead
        self.ttl = 300
        self.delay = 0
        self.keys = {}
        self.new_key("one")
        self.tls = tls
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.issuer = self.url
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    # ------------------------------------------------------------ being there
    def accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def down(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def serve(self, conn):
        try:
            conn.settimeout(30)
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            path, headers, form = self.request(conn)
            self.asked[path].append((headers, form))
            self.calls[path] += 1
            fault = self.faults.get(path)
            if self.delay:
                time.sleep(self.delay)
            answer = fault(self, conn, form) if fault else self.answer(path, form)
            if answer:
                conn.sendall(answer)
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            conn.close()

    @staticmethod
    def request(conn):
        data = b""
        while b"\r\n\r\n" not in data:
            part = conn.recv(65536)
            if not part:
                raise ValueError
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            body += conn.recv(65536)
        return lines[0].split()[1], headers, dict(urllib.parse.parse_qsl(body.decode()))

    # ------------------------------------------------------------ its duties
    def discovery(self, **more):
        return {"issuer": self.issuer, "jwks_uri": self.url + "/keys",
                "token_endpoint": self.url + "/token", "response_types_supported": ["code"],
                "introspection_endpoint": self.url + "/introspect",
                "userinfo_endpoint": self.url + "/userinfo",
                "backchannel_authentication_endpoint": self.url + "/ciba", **more}

    def answer(self, path, form):
        if path == "/.well-known/openid-configuration":
            return respond(200, self.discovery())
        if path == "/keys":
            return respond(200, {"keys": [self.jwk(kid) for kid in self.keys]})
        if path == "/token":
            return respond(200, self.token(form))
        if path == "/introspect":
            return respond(200, self.introspection(form))
        if path == "/userinfo":
            return respond(200, {"sub": "stub", "preferred_username": "alice", "groups": ["dba"]})
        if path == "/ciba":
            return respond(200, {"auth_req_id": b64(os.urandom(16)), "expires_in": 120, "interval": 1})
        return respond(404, {})

    def introspection(self, form):
        if not self.active:
            return {"active": False}
        return {"active": True, "iss": self.issuer, "aud": "stub", "sub": "stub",
                "scope": "db.read db.ddl", "exp": int(time.time() + self.skew) + self.ttl}

    def new_key(self, kid, keep=False):
        self.keys = {**(self.keys if keep else {}), kid: ec.generate_private_key(ec.SECP256R1())}
        self.kid = kid

    def jwk(self, kid):
        n = self.keys[kid].public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
                "x": b64(n.x.to_bytes(32, "big")), "y": b64(n.y.to_bytes(32, "big"))}

    def sign(self, claims, kind="at+jwt"):
        head = {"alg": "ES256", "kid": self.kid, "typ": kind}
        signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        r, s = decode_dss_signature(self.keys[self.kid].sign(signed.encode(),
                                                             ec.ECDSA(hashes.SHA256())))
        return signed + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def token(self, form):
        now = int(time.time() + self.skew)
        claims = {"iss": self.issuer, "aud": "stub", "sub": "stub", "client_id": "stub", "iat": now,
                  "exp": now + self.ttl, "jti": b64(os.urandom(8)), "scope": form.get("scope", ""),
                  **self.claims}
        claims = {k: v for k, v in claims.items() if v is not None}
        text = b64(os.urandom(24)) if self.opaque else self.sign(claims)
        return {"access_token": text, "token_type": "Bearer", "expires_in": self.ttl,
                "scope": claims.get("scope", "")}


def section(stub, secret_file, **more):
    lines = {"issuer": stub.issuer, "allow_http": "true", "timeout": "2s",
             "client": f"{{ id: stub, auth: client_secret_basic, secret_file: {secret_file} }}", **more}
    return "idp:\n" + "".join(f"  {k}: {v}\n" for k, v in lines.items())
