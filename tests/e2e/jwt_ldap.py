# SPDX-License-Identifier: MIT
"""
An LDAP server that takes a signed token for a password, as PostgreSQL's `ldap` method sends it: the
kind of server that JIT tokens are made for. It verifies signature, issuer, audience and end.
"""
import base64
import json
import socket
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256


def unpack(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def element(data):
    """One BER element: (tag, content, what follows)."""
    n, at = data[1], 2
    if n & 0x80:
        at += n & 0x7f
        n = int.from_bytes(data[2:at], "big")
    if len(data) < at + n:
        raise IndexError
    return data[0], data[at:at + n], data[at + n:]


def made(tag, content):
    n = len(content)
    size = bytes([n]) if n < 128 else b"\x82" + n.to_bytes(2, "big")
    return bytes([tag]) + size + content


class JwtLdap:
    def __init__(self, keys, issuer, audience):
        self.keys, self.issuer, self.audience = keys, issuer, audience
        self.seen = []  # (DN, token, whether it was accepted)
        self.accept = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.talk, args=(conn,), daemon=True).start()

    def talk(self, conn):
        data = b""
        with conn:
            while part := conn.recv(65536):
                data += part
                try:
                    _, message, data = element(data)
                except IndexError:
                    continue
                _, number, rest = element(message)
                kind, body, _ = element(rest)
                if kind != 0x60:  # BindRequest
                    return
                _, _, body = element(body)
                _, name, body = element(body)
                _, password, _ = element(body)
                good = self.accept and self.verify(password.decode())
                self.seen.append((name.decode(), password.decode(), good))
                result = made(0x0a, b"\0" if good else b"\x31") + made(4, b"") + made(4, b"")
                conn.sendall(made(0x30, made(2, number) + made(0x61, result)))

    def verify(self, token):
        try:
            head, claims, sig = token.split(".")
            header, said = json.loads(unpack(head)), json.loads(unpack(claims))
            key = [k for k in self.keys()["keys"] if k["kid"] == header["kid"]][0]
            x, y, raw = (int.from_bytes(unpack(key["x"]), "big"),
                         int.from_bytes(unpack(key["y"]), "big"), unpack(sig))
            public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            public.verify(utils.encode_dss_signature(int.from_bytes(raw[:32], "big"),
                                                     int.from_bytes(raw[32:], "big")),
                          f"{head}.{claims}".encode(), ec.ECDSA(SHA256()))
        except (ValueError, KeyError, IndexError, InvalidSignature):
            return False
        return (header["alg"] == "ES256" and said["iss"] == self.issuer and
                said["aud"] == self.audience and said["exp"] > time.time())

    def close(self):
        self.listener.close()
