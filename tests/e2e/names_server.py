# SPDX-License-Identifier: MIT
"""A name server whose answers a test can bend: UDP and TCP, by hand, byte for byte."""
import socket
import struct
import threading
import time

A, CNAME, SOA, TXT, AAAA, OPT, HTTPS, ANY = 1, 5, 6, 16, 28, 41, 65, 255


def wire(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            out += bytes([len(label)]) + label.encode()
    return out + b"\0"


def read_name(msg, at):
    labels = []
    while msg[at]:
        labels.append(msg[at + 1:at + 1 + msg[at]].decode("latin-1"))
        at += 1 + msg[at]
    return ".".join(labels), at + 1


def a(ip, ttl=60):
    return (A, ttl, socket.inet_aton(ip))


def aaaa(ip, ttl=60):
    return (AAAA, ttl, socket.inet_pton(socket.AF_INET6, ip))


def cname(to, ttl=60):
    return (CNAME, ttl, wire(to))


class NameServer:
    """self.zone: name -> list of records, or a function of (name, qtype) that gives one, or a dict
    of knobs: rcode, slow, garbage, truncate, drop."""

    def __init__(self, ip="127.0.0.1"):
        self.zone, self.asked, self.stop_now = {}, [], False
        while True:
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind((ip, 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket()
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind((ip, self.port))
            except OSError:
                self.udp.close()
                self.tcp.close()
                continue
            break
        self.ip = ip
        self.tcp.listen(32)
        self.address = f"{ip}:{self.port}"
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.run_udp, self.run_tcp)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.stop_now = True
        for s in (self.udp, self.tcp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def run_udp(self):
        while not self.stop_now:
            try:
                msg, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if len(msg) < 12:  # woken up to end
                continue
            threading.Thread(target=self.udp_one, args=(msg, peer), daemon=True).start()

    def udp_one(self, msg, peer):
        reply = self.answer(msg, "udp")
        if reply is not None:
            try:
                self.udp.sendto(reply, peer)
            except OSError:
                pass

    def run_tcp(self):
        while not self.stop_now:
            try:
                c, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.tcp_one, args=(c,), daemon=True).start()

    def tcp_one(self, c):
        with c:
            try:
                head = c.recv(2, socket.MSG_WAITALL)
                if len(head) == 2:
                    msg = c.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
                    reply = self.answer(msg, "tcp")
                    if reply is not None:
                        c.sendall(struct.pack(">H", len(reply)) + reply)
            except OSError:
                pass

    def lookup(self, name):
        low = name.lower()
        if low in self.zone:
            return self.zone[low]
        parts = low.split(".")
        for i in range(1, len(parts)):
            star = "*." + ".".join(parts[i:])
            if star in self.zone:
                return self.zone[star]
        return None

    def answer(self, msg, via):
        qid, flags = struct.unpack(">HH", msg[:4])
        name, at = read_name(msg, 12)
        qtype, = struct.unpack(">H", msg[at:at + 2])
        question = msg[12:at + 4]
        self.asked.append((name.lower(), qtype, via))
        found = self.lookup(name)
        knobs = found if isinstance(found, dict) else {}
        if "slow" in knobs:
            time.sleep(knobs["slow"])
        if knobs.get("drop"):
            return None
        if "garbage" in knobs:
            return struct.pack(">HHHHHH", qid, 0x8180, 1, 3, 0, 0) + question + knobs["garbage"]
        if "rcode" in knobs:
            return struct.pack(">HHHHHH", qid, 0x8180 | knobs["rcode"], 1, 0, 0, 0) + question
        if found is None:
            return struct.pack(">HHHHHH", qid, 0x8183, 1, 0, 0, 0) + question
        records = knobs.get("records", found)
        if callable(records):
            records = records(name.lower(), qtype)
        body, n = self.records(name, qtype, records)
        if via == "udp" and (knobs.get("truncate") or 12 + len(question) + len(body) > 1232):
            return struct.pack(">HHHHHH", qid, 0x8380, 1, 0, 0, 0) + question
        return struct.pack(">HHHHHH", qid, 0x8180, 1, n, 0, 0) + question + body

    def records(self, name, qtype, records):
        """What fits the question, following CNAMEs as a recursive server does."""
        body, n = b"", 0
        for kind, ttl, data in records:
            if kind not in (qtype, CNAME) and qtype != ANY:
                continue
            body += wire(name) + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data
            n += 1
            if kind == CNAME and qtype != CNAME:
                to, _ = read_name(data, 0)
                more = self.lookup(to)
                more = more.get("records", []) if isinstance(more, dict) else more or []
                if callable(more):
                    more = more(to, qtype)
                extra, k = self.records(to, qtype, more)
                body += extra
                n += k
        return body, n
