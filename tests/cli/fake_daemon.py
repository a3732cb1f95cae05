#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon's side of the control protocol (include/tidegate_ctl.h), with canned data.

    fake_daemon.py DIR

Listens on one socket a behaviour in DIR: `ok` answers as a daemon does, the others
break the protocol in the way their name says. Prints `ready` when all are there.
"""
import datetime
import json
import os
import socket
import struct
import sys
import threading
import time



class Refused(Exception):
    def __init__(self, code, message, hint=None):
        super().__init__(message)
        self.error = {"code": code, "message": message}
        if hint:
            self.error["hint"] = hint


def when(seconds):
    """RFC 3339 of a time relative to now; half a minute off, so that minutes are steady."""
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (t.microsecond // 1000)


def targets():
    return [
        {"id": 1, "name": "orders-db", "protocol": "postgresql",
         "addresses": ["10.0.0.5:5432", "[2001:db8::5]:5432"], "mode": "steer",
         "configured_mode": "steer", "sessions": 2, "off": None},
        {"id": 2, "name": "billing", "protocol": "postgresql", "addresses": ["10.0.0.6:5432"],
         "mode": "off", "configured_mode": "steer", "sessions": 0,
         "off": {"reason": "incident \x1b[31m4711", "by": "uid 0", "since": when(-630),
                 "until": when(1530)}},
    ]


def sessions():
    return [
        {"id": "0198c0de-0000-7000-8000-000000000001", "agent": "autogen", "target": "orders-db",
         "user": "app", "database": "orders", "state": "open", "pid": 4242, "exe": "/usr/bin/psql",
         "comm": "psql", "cgroup": "/agents.slice/a.scope", "since": when(-750), "worker": 0,
         "container": "5b" * 32, "runtime": "podman", "pod": None,
         "image": "localhost/agent:latest", "netns_cookie": 4711,
         "commands": 17, "bytes_in": 1500, "bytes_out": 3 << 20, "grant": "k7m2pq9x"},
        {"id": "0198c0de-0000-7000-8000-000000000002", "agent": "autogen", "target": "orders-db",
         "user": "app", "database": "orders", "state": "held", "pid": 4243,
         "exe": "/usr/bin/python3", "comm": "py\x07\u202ehon\u00e9\u6f22", "cgroup": "/agents.slice/a.scope",
         "since": when(-3690), "worker": 1, "held": "approval abcd2345", "commands": 0,
         "bytes_in": 90, "bytes_out": 0, "grant": "k7m2pq9x"},
    ]


def grants():
    return [
        {"id": "k7m2pq9x", "agent": "autogen", "target": "orders-db", "scope": "db:orders:read",
         "via": "idp", "by": "client tidegate", "since": when(-750), "until": when(750),
         "sessions": 2, "role": "tg_autogen_k7x2m4q6s5t3u2v4w6y7z2a4bc"},
        {"id": "zz9y8x7w", "agent": "ci", "target": "orders-db", "scope": None, "via": "operator",
         "by": "uid 0", "since": when(-690), "until": when(1770), "sessions": 0,
         "reason": "incident 4711"},
    ]


def approvals():
    return [
        {"id": "abcd2345", "kind": "statement", "agent": "autogen", "target": "orders-db",
         "user": "app", "session": "0198c0de-0000-7000-8000-000000000002",
         "text": "drop table customers\n -- \x1b]0;owned\x07 really, all of them, with everything "
                 "that is in them", "digest": "ab" * 32, "effect": "ddl",
         "rule": "policy[0].commands[1] (tidegate.yaml:18)", "approvers": ["dba-oncall"],
         "min_approvals": 2, "approved_by": [], "since": when(-690), "until": when(3570),
         "in_transaction": True},
        {"id": "efgh6789", "kind": "access", "agent": "ci", "target": "billing", "user": None,
         "session": "0198c0de-0000-7000-8000-000000000003",
         "rule": "policy[1].access (tidegate.yaml:30)", "approvers": [], "min_approvals": 1,
         "approved_by": [], "since": when(-930), "until": when(810), "in_transaction": False},
    ]


def find(what, rows, key, value):
    for row in rows:
        if row[key] == value:
            return row
    raise Refused("not_found", "there is no %s `%s`" % (what, value),
                  "`tidegate %s list` shows them" % what)


PENDING = [
    {"key": "daemon.user", "takes": "upgrade", "text": "daemon.user: /etc/tidegate/tidegate.yaml:3:9: "
     "tidegate -> gate takes an upgrade in place: `tidegate daemon upgrade`"},
    {"key": "recording.dir", "takes": "restart", "text": "recording.dir: /etc/tidegate/tidegate.yaml:"
     "5:8: /a -> /b\x1b[2J takes a restart: `systemctl restart tidegated`"}]


def status(args):
    return {
        "version": "0.1.0", "pid": 4000, "since": when(-7830), "uptime_ms": 7830000, "bpf": "on",
        "workers": [{"id": 0, "pid": 4001, "sessions": 1, "restarts": 0},
                    {"id": 1, "pid": 4002, "sessions": 1, "restarts": 1}],
        "idp": {"issuer": "https://login.example.com", "ok": False, "since": when(-42),
                "detail": "no answer for 42 s"},
        "rechecks_failing": [
            {"way": "idp", "issuer": "https://login.example.com", "since": when(-42), "ends": when(78),
             "grants": 3, "sessions": 12, "why": "introspection endpoint: HTTP 503\x1b[2J", "todo": "wait"}],
        "approvals": [
            {"name": "cerbos", "by": "authzen", "url": "https://pdp.example.com/access/v1/evaluation",
             "ok": True},
            {"name": "own", "by": "saml", "issuer": "https://idp.example.com/saml", "ok": False,
             "detail": "its certificate_file cannot be used"}],
        "token_issuers": [
            {"agents": ["autogen", "ci"], "issuer": "https://kubernetes.example.com", "state": "up",
             "ok": True, "since": when(-60), "keys": 2, "keys_age_ms": 42000},
            {"agents": ["coder"], "issuer": "https://spire.example.com", "state": "down", "ok": False,
             "since": "2026-01-02T03:04:05.000Z",
             "detail": "the provider's keys: HTTP 503: see the provider's own log"}],
        "roles": {"roles": [{"role": "tg_autogen_k7x2m4q6s5t3u2v4w6y7z2a4bc", "state": "ready"},
                            {"role": "tg_ci_a2b3c4d5e6f7g2h3i4j5k6l7mn", "state": "dropping"}],
                  "unswept": [], "made": 5, "dropped": 3, "failed": 0, "left_behind": 1},
        "kernel": {"steered": 12, "denied_blocked": 0, "denied_no_listener": 3},
        "counters": {"none": 0, "rule_deny": 2, "not_a_reason_yet": 1, "approval_expired": 1},
        "namespaces": [
            {"cookie": 4711, "agent": "autogen", "pid": 4242, "port": 40001, "lo_up": True,
             "initial_owner": True},
            {"cookie": 4712, "agent": "ci", "pid": 4243, "port": 40002, "lo_up": False,
             "initial_owner": False}],
        "warnings": ["the kernel has no cgroup/connect_unix: unix sockets are not guarded"],
        "accelerator": {
            "self_test": "done", "rows": 36,
            "targets": [
                {"target": "orders-db", "accelerate": "on", "directions": "both", "why": ""},
                {"target": "logs", "accelerate": "auto", "directions": "off",
                 "why": "on this kernel a program could tell: fionread"},
                {"target": "cache", "accelerate": "on", "directions": "off",
                 "why": "no kernel steering"}],
            "differs": [
                {"row": "fionread", "what": "w", "integrity": False, "tcp": "1000 of 1000",
                 "requests": "0 of 1000", "both": "1000 of 1000", "fallen_back": "0 of 1000"},
                {"row": "waitall", "what": "w", "integrity": False, "tcp": "200 of 200",
                 "requests": "200 of 200", "both": "100 of 200", "fallen_back": "200 of 200"}]},
        "pending": PENDING,
        "targets_off": [targets()[1]],
    }


def target_set(args):
    row = find("target", targets(), "name", args["name"])
    mode = args["mode"]
    row["mode"] = row["configured_mode"] if mode == "reset" else mode
    row["off"] = None
    if mode == "off":
        row["off"] = {"reason": args["reason"], "by": "uid 0", "since": when(0),
                      "until": when(args["for_ms"] / 1000) if "for_ms" in args else None}
    return row


def session_list(args):
    return [s for s in sessions() if args.get("agent", s["agent"]) == s["agent"]
            and args.get("target", s["target"]) == s["target"]]


def session_show(args):
    row = dict(find("session", sessions(), "id", args["id"]))
    row["live"] = {"pending_to_server": 0, "inspector": {
        "phase": "ready", "transaction": "idle", "statements": ["s\x1b1", "s2"]}, "masked": 0}
    return row


def session_kill(args):
    find("session", sessions(), "id", args["id"])
    return {"killed": 1}


def session_follow(args):
    first = {"time": "2026-01-31T12:00:00.000Z", "session": sessions()[0]["id"], "agent": "autogen",
             "target": "orders-db"}
    yield dict(first, event="statement", text="select\x1b[2J 1", effects=["read"], decision="allow",
               rule=None)
    yield dict(first, event="result", data={"tag": "SELECT 1", "rows": 1, "time": "x"})
    yield dict(first, event="end", reason="client_closed")


def grant_create(args):
    if args["agent"] not in ("autogen", "ci"):
        raise Refused("not_found", "there is no agent `%s`" % args["agent"],
                      "`tidegate agent list` shows them")
    return {"id": "newgrant", "agent": args["agent"], "target": args["target"], "scope": None,
            "via": "operator", "by": "uid 0", "since": "2026-01-31T12:00:00.000Z",
            "until": "2026-01-31T12:%02d:00.000Z" % (args["for_ms"] // 60000), "sessions": 0,
            "reason": args["reason"]}


def grant_revoke(args):
    return {"sessions": find("grant", grants(), "id", args["id"])["sessions"]}


def approval_approve(args):
    row = find("approval", approvals(), "id", args["id"])
    row["approved_by"] = ["uid 0"]
    row["decided"] = row["min_approvals"] <= 1
    return row


def approval_deny(args):
    row = find("approval", approvals(), "id", args["id"])
    if row["kind"] == "access":
        raise Refused("conflict", "approval `%s` is decided already" % args["id"])
    return row


# op: (handler, needed arguments, further arguments)
OPS = {
    "status": (status, {}, {}),
    "target.list": (lambda a: targets(), {}, {}),
    "target.set": (target_set, {"name": str, "mode": str}, {"reason": str, "for_ms": int}),
    "agent.list": (lambda a: [
        {"id": 1, "name": "autogen", "cgroups": ["/agents.slice"], "uids": [], "sessions": 2},
        {"id": 2, "name": "ci", "cgroups": [], "uids": [990, 991], "sessions": 0}], {}, {}),
    "session.list": (session_list, {}, {"agent": str, "target": str}),
    "session.show": (session_show, {"id": str}, {}),
    "session.kill": (session_kill, {"id": str}, {"reason": str}),
    "session.follow": (session_follow, {}, {"id": str}),
    "grant.list": (lambda a: grants(), {}, {}),
    "grant.create": (grant_create, {"agent": str, "target": str, "for_ms": int, "reason": str}, {}),
    "grant.revoke": (grant_revoke, {"id": str}, {"reason": str}),
    "approval.list": (lambda a: approvals(), {}, {}),
    "approval.approve": (approval_approve, {"id": str}, {"for_ms": int, "reason": str}),
    "approval.deny": (approval_deny, {"id": str}, {"reason": str}),
    "dns.list": (lambda a: [
        {"name": "orders.db.internal", "host": "*.db.internal", "target": "orders-db",
         "addresses": ["10.0.0.5:5432", "[2001:db8::5]:5432"], "ttl_s": 30, "since": when(-7200),
         "seen": when(-12), "until": when(3618), "sessions": 2}], {}, {}),
    "dns.show": (lambda a: {"steering": True, "pid": 4711, "restarts": 0,
                            "servers": ["10.0.0.53"], "questions": 1234, "addresses": 2,
                            "log": "dns.jsonl"}, {}, {}),
    "policy.reload": (lambda a: {"digest": "cd" * 32, "changed": True, "pending": PENDING}, {}, {}),
    "policy.show": (lambda a: {"file": "/etc/tidegate/none.yaml", "digest": "ab" * 32,
                               "loaded": "2026-01-31T12:00:00.000Z"}, {}, {}),
    "daemon.upgrade": (lambda a: {"version": "0.1.1", "before": "0.1.0", "pid": 4711, "sessions": 7,
                                  "workers_before": 2}, {}, {}),
}


def read_exactly(conn, n):
    data = b""
    while len(data) < n:
        part = conn.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_request(conn):
    (n,) = struct.unpack("<I", read_exactly(conn, 4))
    request = json.loads(read_exactly(conn, n))
    if set(request) != {"v", "op", "args"} or request["v"] != 1:
        raise Refused("bad_request", "a request has v, op and args")
    return request


def frame(answer):
    data = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
    return struct.pack("<I", len(data)) + data


def handle(request):
    if request["op"] not in OPS:
        raise Refused("unknown_op", "no op `%s`" % request["op"])
    handler, needed, further = OPS[request["op"]]
    args = request["args"]
    for key, kind in needed.items():
        if not isinstance(args.get(key), kind):
            raise Refused("bad_request", "args.%s is missing or of the wrong type" % key)
    for key, value in args.items():
        if key not in needed and not isinstance(value, further.get(key, ())):
            raise Refused("bad_request", "args.%s is not known or of the wrong type" % key)
    return handler(args)


def serve_ok(conn):
    try:
        result = handle(read_request(conn))
    except Refused as refused:
        conn.sendall(frame({"v": 1, "ok": False, "error": refused.error}))
        return
    many = hasattr(result, "__next__")
    for one in result if many else [result]:
        data = frame({"v": 1, "ok": True, "result": one})
        # In pieces: a reader must not count on getting a message in one.
        for cut in (data[:2], data[2:7], data[7:]):
            conn.sendall(cut)
            time.sleep(0.002)


def serve_bytes(data):
    def serve(conn):
        read_request(conn)
        conn.sendall(data)
    return serve


def serve_silent(conn):
    read_request(conn)
    time.sleep(30)


def serve_deaf(conn):
    """Sends half a message and stops."""
    read_request(conn)
    conn.sendall(struct.pack("<I", 100) + b'{"v": 1')
    time.sleep(30)


def empty(conn):
    request = read_request(conn)
    conn.sendall(frame({"v": 1, "ok": True, "result": {} if request["op"] == "status" else []}))


BEHAVIOURS = {
    "ok": serve_ok,
    "empty": empty,
    "closes": lambda conn: None,
    "silent": serve_silent,
    "deaf": serve_deaf,
    "garbage": serve_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "not-json": serve_bytes(frame(b"{]")),
    "twice": serve_bytes(frame(b'{"v":1,"ok":true,"ok":false,"result":[]}')),
    "huge": serve_bytes(struct.pack("<I", (4 << 20) + 1)),
    "short": serve_bytes(struct.pack("<I", 100) + b"{}"),
    "newer": serve_bytes(frame({"v": 2, "ok": True, "result": []})),
    "no-result": serve_bytes(frame({"v": 1, "ok": True})),
    "no-error": serve_bytes(frame({"v": 1, "ok": False})),
    "wrong-keys": serve_bytes(frame({"v": 1, "ok": True, "result": {}})),
    "wrong-type": serve_bytes(frame({"v": 1, "ok": True, "result": "x"})),
    "denies": serve_bytes(frame({"v": 1, "ok": False, "error": {
        "code": "permission", "message": "uid 1000 is neither root nor in \x1b[7mtidegate",
        "hint": "ask the administrator"}})),
}


def run(conn, behaviour):
    with conn:
        try:
            behaviour(conn)
        except (EOFError, OSError):
            pass


def listen(path, behaviour):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    s.listen(16)

    def loop():
        while True:
            conn, _ = s.accept()
            threading.Thread(target=run, args=(conn, behaviour), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()


def main():
    for name, behaviour in BEHAVIOURS.items():
        listen(os.path.join(sys.argv[1], name), behaviour)
    # A socket that nobody listens at any more.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(os.path.join(sys.argv[1], "stale"))
    print("ready", flush=True)
    # Until whoever started this goes away.
    sys.stdin.read()


main()
