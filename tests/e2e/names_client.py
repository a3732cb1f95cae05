# SPDX-License-Identifier: MIT
"""Run inside an agent's cgroup: asks one name server by hand and prints JSON.
   names_client.py SERVER NAME TYPE [udp|tcp|unconnected] [raw-hex]"""
import json
import socket
import struct
import sys


def wire(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p) + b"\0"


def skip(msg, at):
    while True:
        n = msg[at]
        if n >= 0xc0:
            return at + 2
        at += 1 + n
        if n == 0:
            return at


def main():
    server, name, qtype = sys.argv[1], sys.argv[2], int(sys.argv[3])
    how = sys.argv[4] if len(sys.argv) > 4 else "udp"
    msg = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + wire(name) + struct.pack(">HH", qtype, 1)
    if len(sys.argv) > 5:
        msg = bytes.fromhex(sys.argv[5])
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    out = {}
    try:
        s = socket.socket(family, socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM)
        s.settimeout(12)
        if how != "unconnected":
            s.connect((server, 53))
        if how == "tcp":
            s.sendall(struct.pack(">H", len(msg)) + msg)
            n, = struct.unpack(">H", s.recv(2, socket.MSG_WAITALL))
            reply = s.recv(n, socket.MSG_WAITALL)
            out["from"] = s.getpeername()[:2]
        else:
            if how == "unconnected":
                s.sendto(msg, (server, 53))
            else:
                s.send(msg)
            reply, peer = s.recvfrom(65535)
            out["from"] = peer[:2]
        qid, flags, nq, na, _, _ = struct.unpack(">HHHHHH", reply[:12])
        out.update(id=qid, rcode=flags & 15, tc=bool(flags & 0x200), n=na, bytes=len(reply), addresses=[])
        at = 12
        for _ in range(nq):
            at = skip(reply, at) + 4
        for _ in range(na):
            at = skip(reply, at)
            kind, _, ttl, n = struct.unpack(">HHIH", reply[at:at + 10])
            data = reply[at + 10:at + 10 + n]
            at += 10 + n
            if kind == 1:
                out["addresses"].append(socket.inet_ntoa(data))
            elif kind == 28:
                out["addresses"].append(socket.inet_ntop(socket.AF_INET6, data))
    except OSError as e:
        out["error"] = type(e).__name__
    print(json.dumps(out))


main()
