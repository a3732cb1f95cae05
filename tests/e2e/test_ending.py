# SPDX-License-Identifier: MIT
"""What an approval leaves behind (receipts), and how access ends."""
import glob
import json
import os
import shutil
import signal
import subprocess
import time

import harness
import pytest
from harness import BUILD, policy, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
APPROVED = ["{ effect: ddl, do: approve }", "{ effect: any, do: allow }"]


def verify(*args):
    out = subprocess.run([f"{BUILD}/tidegate", "-j", "recording", "verify", *args],
                         capture_output=True, text=True)
    return json.loads(out.stdout), out.returncode


def records(path, kind):
    out = subprocess.run([f"{BUILD}/tidegate", "recording", "export", path], capture_output=True,
                         text=True, check=True).stdout
    return [r for r in map(json.loads, out.splitlines()) if r["type"] == kind]


def receipts(path):
    """(record, body) of each receipt in a recording, the signature checked by OpenSSL's own tool."""
    out = []
    for r in records(path, "decision"):
        data = r["data"]
        if "receipt" not in data:
            continue
        key = f"{os.path.dirname(path)}/receipts-{data['receipt']['key']}.pub"
        body, sig = path + ".body", path + ".sig"
        with open(body, "w") as f:
            f.write(data["receipt"]["body"])
        with open(sig, "wb") as f:
            f.write(bytes.fromhex(data["receipt"]["sig"]))
        subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key,
                        "-sigfile", sig, "-in", body], check=True, capture_output=True)
        os.unlink(body)
        os.unlink(sig)
        out.append((data, json.loads(data["receipt"]["body"])))
    return out


def finished(d, n=1):
    wait_for("the sessions to be over", lambda: not d.ctl("session.list"))
    return wait_for("the recordings", lambda: len(d.recordings()) >= n and d.recordings())


# ---------------------------------------------------------------- receipts


def test_access_by_an_operator_has_a_receipt(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 1")
    a = d.approval()
    d.ctl("approval.approve", id=a["id"], reason="ticket 7")
    assert psql.communicate(timeout=15 * harness.SLOW)[0] == "1\n"
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 2") == "2\n"
    g = d.ctl("grant.list")[0]
    for path in finished(d, 2):
        (rec, body), = receipts(path)
        assert body["receipt"] == 1 and body["what"] == "access" and body["decision"] == "allow"
        assert body["via"] == "builtin" and body["approved_by"] == ["root (uid 0)"]
        assert body["detail"] == "ticket 7" and body["request"] == a["id"], body
        assert body["agent"] == "bot" and body["target"] == "shop" and body["user"] == "agent"
        assert body["grant"] == g["id"] == rec["grant"] and body["until"] == g["until"], (body, g)
    verdicts, rc = verify(*d.recordings())
    assert rc == 0 and all(v["receipts"]["good"] == 1 and not v["receipts"]["bad"]
                           for v in verdicts), verdicts
    assert {v["receipts"]["key"] for v in verdicts} == {d.ctl("status")["receipt_key"]}
    assert oct(os.stat(f"{d.dir}/state/receipts.key").st_mode & 0o7777) == "0o600"


def test_statements_have_receipts_of_their_own(daemon, pg):
    d = daemon(policy(pg.port, commands=APPROVED))
    psql = d.popen(["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "shop"],
                   stdin=subprocess.PIPE)
    psql.stdin.write("CREATE TABLE receipt_a (a int);\nCREATE TABLE receipt_b (a int);\n")
    psql.stdin.flush()
    a = d.approval()
    d.ctl("approval.approve", id=a["id"])
    b = wait_for("the second", lambda: [x for x in d.ctl("approval.list") if x["id"] != a["id"]])[0]
    d.ctl("approval.deny", id=b["id"], reason="not today")
    psql.stdin.close()
    psql.wait(15 * harness.SLOW)
    path, = finished(d)
    (_, yes), (_, no) = receipts(path)
    assert (yes["decision"], yes["statement_sha256"], yes["effect"]) == ("allow", a["digest"], "ddl")
    assert (no["decision"], no["statement_sha256"], no["reason"], no["detail"]) == (
        "deny", b["digest"], "approval_denied", "not today")
    assert yes["session"] in path and "grant" not in yes and "until" not in yes
    verdicts, rc = verify(path)
    assert rc == 0 and verdicts[0]["receipts"]["good"] == 2, verdicts


def test_extended_protocol_statements_verify(daemon, pg):
    """The digest of an execution covers its parameters, in the receipt as in the record."""
    d = daemon(policy(pg.port, commands=["{ effect: write, do: approve }",
                                         "{ effect: any, do: allow }"]))
    script = ("import sys; sys.path.insert(0, %r)\nimport harness, struct\n"
              "from harness import message\nr = harness.Raw(%d)\n"
              "r.send(message(b'P', b's\\0INSERT INTO notes (body) VALUES ($1)\\0' + b'\\0\\0'),"
              " message(b'B', b'\\0s\\0\\0\\0\\0\\x01' + struct.pack('>I', 5) + b'hello' + b'\\0\\0'),"
              " message(b'E', b'\\0' + b'\\0' * 4), message(b'S', b''))\n"
              "print(b''.join(k for k, _ in r.until(b'Z')))\n" % (HERE, pg.port))
    agent = d.popen(["/usr/bin/python3", "-c", script])
    a = wait_for("the question", lambda: [x for x in d.ctl("approval.list")
                                          if "hello" in (x["text"] or "")])[0]
    d.ctl("approval.approve", id=a["id"])
    assert "C" in agent.communicate(timeout=15 * harness.SLOW)[0]
    paths = finished(d)
    found = [b for p in paths for _, b in receipts(p) if b.get("request") == a["id"]]
    assert found and found[0]["statement_sha256"] == a["digest"]
    verdicts, rc = verify(*paths)
    assert rc == 0 and sum(v.get("receipts", {}).get("good", 0) for v in verdicts) >= 1, verdicts


def test_a_receipt_of_another_key_is_named(daemon, pg, tmp_path):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT 1")
    d.ctl("approval.approve", id=d.approval()["id"])
    psql.communicate(timeout=15 * harness.SLOW)
    path, = finished(d)
    other = str(tmp_path / "other.pub")
    subprocess.run("openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out " + other,
                   shell=True, check=True, capture_output=True)
    verdicts, rc = verify("--key", other, path)
    assert rc and "signed with another key" in json.dumps(verdicts), verdicts
    own, = glob.glob(f"{d.dir}/recordings/receipts-*.pub")
    assert verify("--key", own, path)[1] == 0
    # A key under the name of another is still another.
    shutil.copy(other, own)
    verdicts, rc = verify(path)
    assert rc and "signed with another key" in json.dumps(verdicts), verdicts


def test_keyd_is_started_again_while_it_should_sign(daemon, pg):
    """Held until it is back, and the same key signs."""
    d = daemon(policy(pg.port, access="builtin"))
    key = wait_for("the key", lambda: d.ctl("status")["receipt_key"])
    psql = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 1")
    a = d.approval()
    os.kill(d.children()["keyd"], signal.SIGKILL)
    d.ctl("approval.approve", id=a["id"])
    assert psql.communicate(timeout=15 * harness.SLOW)[0] == "1\n"
    path, = finished(d)
    (rec, _), = receipts(path)
    assert rec["receipt"]["key"] == key


def test_without_a_key_nothing_is_approved(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    wait_for("the key", lambda: d.ctl("status")["receipt_key"])
    d.stop_process()
    os.chmod(f"{d.dir}/state/receipts.key", 0o644)
    os.mkdir(d.cgroup) if d.cgroup and not os.path.exists(d.cgroup) else None
    d.start()
    psql = d.psql_later(pg.port, "-c", "SELECT 1")
    d.ctl("approval.approve", id=d.approval()["id"])
    out = psql.communicate(timeout=15 * harness.SLOW)[0]
    assert "could not be signed" in out, out
    assert d.ctl("grant.list") == []
    assert "others may read or change it" in d.log()


def test_break_glass_has_a_receipt(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    d.ctl("grant.create", agent="bot", target="shop", for_ms=60000, reason="on fire")
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 1") == "1\n"
    path, = finished(d)
    (_, body), = receipts(path)
    assert (body["what"], body["via"], body["detail"], body["scope"]) == (
        "grant", "break-glass", "on fire", "*"), body
    assert verify(path)[1] == 0
