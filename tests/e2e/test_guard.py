# SPDX-License-Identifier: MIT
"""Before the daemon is up, while it is dead, and when somebody else changes the kernel side."""
import ctypes
import glob
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import pytest
import harness
from harness import BUILD, policy, wait_for

libc = ctypes.CDLL("libc.so.6", use_errno=True)
NR_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, OBJ_GET, LINK_CREATE, LINK_DETACH = 5, 7, 28, 34
CGROUP_SOCK_ADDR, INET4_CONNECT = 18, 10  # a type of program, and where it is attached


def bpf(cmd, attr):
    fd = libc.syscall(NR_BPF, cmd, attr, len(attr))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd


def obj_get(path):
    name = ctypes.create_string_buffer(path.encode())
    return bpf(OBJ_GET, ctypes.create_string_buffer(
        ctypes.addressof(name).to_bytes(8, "little") + bytes(112), 120))


def detach(path):
    fd = obj_get(path)
    bpf(LINK_DETACH, ctypes.create_string_buffer(fd.to_bytes(4, "little") + bytes(116), 120))
    os.close(fd)


def foreign_link():
    """Somebody else's program, which lets everybody, behind ours: as long as this is open."""
    insns = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, 1, 0x95, 0, 0, 0), 16)
    license = ctypes.create_string_buffer(b"GPL")
    prog = bpf(PROG_LOAD, ctypes.create_string_buffer(struct.pack(
        "<IIQQIIQII16sII", CGROUP_SOCK_ADDR, 2, ctypes.addressof(insns), ctypes.addressof(license),
        0, 0, 0, 0, 0, b"foreign", 0, INET4_CONNECT), 120))
    root = os.open(harness.cgroup_root(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return bpf(LINK_CREATE, ctypes.create_string_buffer(struct.pack(
            "<IIII", prog, root, INET4_CONNECT, 0), 64))
    finally:
        os.close(root)
        os.close(prog)


def pins(d):
    return f"/sys/fs/bpf/tidegate-{d.tag}/v1"


def ctl(d, *args):
    return subprocess.run([f"{BUILD}/tidegate", "-c", d.config_path, *args], capture_output=True,
                          text=True)


def events(d, event=None):
    with open(f"{d.dir}/state/audit.jsonl") as f:
        lines = [json.loads(line) for line in f]
    return [e for e in lines if event in (None, e["event"])]


def psql(d, pg):
    return d.run(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent",
                  "-d", "shop", "-c", "SELECT 42"]).stdout


def pin(d):
    done = subprocess.run([f"{BUILD}/tidegated", "--pin", "-c", d.config_path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def as_after_boot(d):
    """Pins are gone and no daemon has been up in this boot; what is on the disk stays."""
    d.kill()
    shutil.rmtree(f"/sys/fs/bpf/tidegate-{d.tag}")
    with open(f"{d.dir}/state/counted", "r+b") as f:
        f.seek(16)
        f.write(b"00000000-0000-0000-0000-000000000000")


def test_boot(daemon, pg):
    """The early unit's work alone refuses and counts; the daemon takes over and tells."""
    d = daemon(policy(pg.port))
    assert psql(d, pg) == "42\n"
    as_after_boot(d)
    os.rmdir(d.cgroup)  # slices are made after the early unit
    assert "1 targets are refused to 1 agents" in pin(d)
    os.mkdir(d.cgroup)
    for _ in range(3):
        assert "refused" in psql(d, pg)
    links = {name: os.stat(name).st_ino for name in glob.glob(f"{pins(d)}/links/tg_*")
             if re.search("connect|sendmsg|sock|bind|peer", name)}
    d.start()
    assert psql(d, pg) == "42\n"
    # Taken over in place: the links are the same, so no moment was without one.
    assert links == {name: os.stat(name).st_ino for name in links} and len(links) > 8
    [down] = events(d, "daemon.was_down")
    assert down["counted"]["denied_no_listener"] == 3
    assert down["since"].startswith("20")
    assert "while the daemon was down" in d.log()
    assert [e["event"] for e in events(d)][-2:] == ["daemon.was_down", "daemon.start"]


def test_killed(daemon, pg):
    d = daemon(policy(pg.port))
    assert psql(d, pg) == "42\n"
    time.sleep(1.3)  # the counters of the living one are its own
    d.kill()
    assert "refused" in psql(d, pg)
    done = ctl(d, "target", "disable", "shop", "--reason", "incident 1", "--for", "1h")
    assert done.returncode == 0, done.stderr
    assert psql(d, pg) == "42\n"
    d.start()
    [down] = events(d, "daemon.was_down")
    assert down["counted"] == {"denied_no_listener": 1, "passed_off": 1}
    [switched] = events(d, "target.set")
    assert switched["mode"] == "off" and switched["while_down"] and switched["uid"] == 0
    assert switched["reason"] == "incident 1"
    d.ctl("target.set", name="shop", mode="reset")
    assert psql(d, pg) == "42\n"
    d.process.terminate()
    d.process.wait(40)
    d.start()
    assert len(events(d, "daemon.was_down")) == 1
    assert [e["event"] for e in events(d)].count("daemon.stop") == 1


LOOP = """
import errno, socket, sys, time
n, seen = 0, {}
end = time.monotonic() + 90
while time.monotonic() < end and not __import__("select").select([sys.stdin], [], [], 0)[0]:
    with socket.socket() as s:
        s.settimeout(5)
        e = s.connect_ex(("127.0.0.1", int(sys.argv[1])))
    seen[errno.errorcode.get(e, "ok")] = seen.get(errno.errorcode.get(e, "ok"), 0) + 1
print(seen)
"""


def test_no_connect_slips_through(daemon):
    """An agent that never stops connecting while the daemon dies, starts, and is pinned beside.

    It sends nothing, and the gate opens its own connection only for a startup message: whatever
    the server accepts has not been steered.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4096)
        server.setblocking(False)
        port = server.getsockname()[1]
        d = daemon(policy(port))
        loop = d.popen(["/usr/bin/python3", "-c", LOOP, str(port)], stdin=subprocess.PIPE)
        d.kill()
        d.start()
        pin(d)
        time.sleep(1.2)  # the daemon puts its own programs back
        d.process.terminate()
        d.process.wait(40)
        pin(d)
        d.start()
        out = loop.communicate("\n", timeout=60)[0]
        seen = eval(out)
        with pytest.raises(BlockingIOError):
            server.accept()
    # A listener that is closed within a handshake resets it before connect() has returned.
    resets = seen.pop("ECONNRESET", 0)
    resets += seen.pop("EAGAIN", 0)  # nor is one that got no answer in time through
    assert set(seen) == {"ok", "ECONNREFUSED"}, seen
    assert resets < 20 < min(seen.values()), (resets, seen)
    assert d.ctl("status")["integrity"]["faults"] == []
    d.stop_process()
    # None of connections that were cut before they said anything; of those that were one too many, few.
    refused = d.recordings()
    assert len(refused) < 20 * 30, len(refused)
    for path in refused:
        out = subprocess.run([f"{BUILD}/tidegate", "recording", "export", path], capture_output=True, text=True)
        assert '"refused":"overload"' in out.stdout, out


def test_renamed_target_is_guarded_throughout(daemon):
    """A reload that gives addresses to another target leaves no moment without one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4096)
        server.setblocking(False)
        port = server.getsockname()[1]
        # Among many, all of which change hands.
        addresses = ", ".join(f'"127.1.{i}.1:{port}"' for i in range(200))
        d = daemon(policy(port).replace(f'address: "127.0.0.1:{port}"',
                                        f'address: ["127.0.0.1:{port}", {addresses}]'))
        loop = d.popen(["/usr/bin/python3", "-c", LOOP, str(port)], stdin=subprocess.PIPE)
        names = ["shop", "store"] * 6
        for old, new in zip(names, names[1:]):
            with open(d.config_path) as f:
                text = f.read()
            with open(d.config_path, "w") as f:
                f.write(text.replace(f"  {old}:", f"  {new}:").replace(f"[{old}]", f"[{new}]"))
            d.ctl("policy.reload")
        seen = eval(loop.communicate("\n", timeout=60)[0])
        with pytest.raises(BlockingIOError):
            server.accept()
    assert seen.get("ok", 0) > 100, seen


def test_stopped_as_soon_as_it_is_up(daemon, pg):
    """Workers that come up after the word to stop are told, too."""
    d = daemon(policy(pg.port), workers=4)
    for _ in range(3):
        d.process.terminate()
        d.process.wait(10)
        with open(d.log_path, "ab") as log:
            offset = log.tell()
            d.process = subprocess.Popen([f"{BUILD}/tidegated", "-c", d.config_path], stderr=log,
                                         stdin=subprocess.DEVNULL)
        wait_for("the daemon", lambda: d.ready(offset), 20, 0.001)


def test_foreign_changes(daemon, pg):
    d = daemon(policy(pg.port))
    assert d.ctl("status")["integrity"] == {"changes": 0, "repaired": 0, "last": None, "faults": []}
    path = f"{pins(d)}/links/tg_connect4"
    began = time.monotonic()
    detach(path)
    wait_for("the link", lambda: d.ctl("status")["integrity"]["changes"] == 1, 3)
    assert time.monotonic() - began < 1.6 * harness.SLOW
    assert psql(d, pg) == "42\n" and d.ctl("status")["kernel"]["steered"] == 1
    os.unlink(f"{pins(d)}/maps/tg_targets")
    wait_for("the pin", lambda: os.path.exists(f"{pins(d)}/maps/tg_targets"), 3)
    subprocess.run(["bpftool", "map", "delete", "pinned", f"{pins(d)}/maps/tg_uids", "key", "1",
                    "0", "0", "0"], capture_output=True)  # not there: nothing happens
    status = wait_for("both", lambda: (lambda s: s["changes"] == 2 and s)(
        d.ctl("status")["integrity"]), 3)
    assert status["repaired"] == 2 and status["faults"] == [] and status["last"]
    assert [e["fault"] for e in events(d, "kernel.changed")] == ["link_detached", "link_unpinned"]
    assert all(e["repaired"] for e in events(d, "kernel.changed"))
    assert any("somebody else changed" in w for w in d.ctl("status")["warnings"])
    assert "tg_connect4 was detached" in d.log()
    text = ctl(d, "status").stdout
    assert "somebody else changed the kernel side 2 times" in text
    shown = ctl(d, "audit", "show", "--event", "kernel").stdout
    assert shown.count("kernel.changed") == 2 and 'where="tg_connect4"' in shown


def test_foreign_program(daemon, pg):
    """One behind ours could undo what ours decides: told while it is there, and when it is gone."""
    d = daemon(policy(pg.port))
    began = time.monotonic()
    link = foreign_link()
    try:
        [fault] = wait_for("the fault", lambda: d.ctl("status")["integrity"]["faults"], 3)
        assert time.monotonic() - began < 1.6 * harness.SLOW
        shown = ctl(d, "status").stdout
        time.sleep(1.2)  # as long as it is so, it is told once
        status = d.ctl("status")
    finally:
        os.close(link)
    assert (fault["fault"], fault["where"]) == ("foreign_program", "tg_connect4")
    text = fault["text"]
    assert re.match(r"program foreign \(\d+\) runs after tg_connect4 and can undo", text)
    assert text in shown and text in status["warnings"]
    assert (status["integrity"]["changes"], status["integrity"]["repaired"]) == (1, 0)
    assert d.log().count(text) == 1
    [e] = events(d, "kernel.changed")
    assert (e["fault"], e["where"], e["text"], e["repaired"]) == (
        "foreign_program", "tg_connect4", text, False)
    wait_for("its end", lambda: not d.ctl("status")["integrity"]["faults"], 3)
    assert text not in d.ctl("status")["warnings"]
    [over] = wait_for("it on record", lambda: events(d, "kernel.fault_over"), 3)
    assert (over["fault"], over["where"], over["text"]) == ("foreign_program", "tg_connect4", text)
    assert f"this is over: {text}" in d.log()
    assert d.ctl("status")["integrity"]["changes"] == 1
    assert psql(d, pg) == "42\n"


def unit_capabilities(unit):
    with open(f"{harness.ROOT}/deploy/systemd/{unit}") as f:
        names = [w for line in f if line.startswith("CapabilityBoundingSet=")
                 for w in line.split("=", 1)[1].split()]
    return ",".join(["-all"] + ["+" + n.removeprefix("CAP_").lower() for n in names])


def test_with_the_capabilities_of_the_units(daemon, pg):
    """What the units leave is enough to pin, to notice, and to put right."""
    d = daemon(policy(pg.port))
    as_after_boot(d)
    done = subprocess.run(["setpriv", "--bounding-set",
                           unit_capabilities("tidegate-early.service"), "--no-new-privs",
                           f"{BUILD}/tidegated", "--pin", "-c", d.config_path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused" in psql(d, pg)
    with open(d.log_path, "ab") as log:
        offset = log.tell()
        d.process = subprocess.Popen(
            ["setpriv", "--bounding-set", unit_capabilities("tidegated.service"), "--no-new-privs",
             f"{BUILD}/tidegated", "-c", d.config_path], stderr=log, stdin=subprocess.DEVNULL)
    wait_for("the daemon", lambda: d.ready(offset), 20)
    [down] = events(d, "daemon.was_down")
    assert down["counted"]["denied_no_listener"] == 1
    assert psql(d, pg) == "42\n"
    detach(f"{pins(d)}/links/tg_connect4")
    os.unlink(f"{pins(d)}/maps/tg_targets")
    [egress] = glob.glob(f"{pins(d)}/links/egress_*")
    os.unlink(egress)
    wait_for("all", lambda: d.ctl("status")["integrity"]["repaired"] == 3, 5)
    assert d.ctl("status")["integrity"]["faults"] == []
    assert psql(d, pg) == "42\n"


def test_target_added_by_hand(daemon, pg):
    """The utility writes the map beside the daemon: told, and left as it is."""
    d = daemon(policy(pg.port))
    assert ctl(d, "target", "add", "shop", "10.255.0.1:5432").returncode == 0
    wait_for("it", lambda: events(d, "kernel.changed"), 3)
    [e] = events(d, "kernel.changed")
    assert e["fault"] == "map_changed" and not e["repaired"] and "10.255.0.1" in e["text"]
    dump = ctl(d, "-j", "map", "dump", "tg_addrs").stdout
    assert "10.255.0.1" in dump
    assert ctl(d, "target", "delete", "shop", "10.255.0.1:5432").returncode == 0
    wait_for("both", lambda: len(events(d, "kernel.changed")) == 2, 3)


def test_audit_is_needed_to_open_the_gate(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    os.rename(f"{d.dir}/state/audit.jsonl", f"{d.dir}/kept")
    d.kill()
    os.symlink("/dev/full", f"{d.dir}/state/audit.jsonl")
    d.start()
    with pytest.raises(harness.Refused, match="not be on record"):
        d.ctl("target.set", name="shop", mode="off", reason="x")
    with pytest.raises(harness.Refused, match="not be on record"):
        d.ctl("grant.create", agent="bot", target="shop", for_ms=60000, reason="x")
    assert d.ctl("target.list")[0]["mode"] == "steer"
    assert any("not in the audit log" in w for w in d.ctl("status")["warnings"])
    os.unlink(f"{d.dir}/state/audit.jsonl")
    d.ctl("target.set", name="shop", mode="off", reason="y")
    [e] = events(d, "target.set")
    assert (e["mode"], e["reason"]) == ("off", "y")


def test_audit_rotates_and_mends(daemon, pg):
    d = daemon(policy(pg.port))
    d.write_config(policy(pg.port) + "audit: { size: 64KiB, keep: 1 }\n")
    d.kill()
    with open(f"{d.dir}/state/audit.jsonl", "a") as f:
        f.write('{"time":"2026-01-01T00:00:00.000Z","event":"cut sh')
    d.start()
    for i in range(500):
        d.ctl("target.set", name="shop", mode="block" if i % 2 else "steer",
              reason=f"{i:04} " + "x" * 200)
    names = sorted(os.path.basename(n) for n in glob.glob(f"{d.dir}/state/audit.jsonl*"))
    assert names == ["audit.jsonl", "audit.jsonl.1"]
    assert all(os.path.getsize(f"{d.dir}/state/{n}") <= 65536 for n in names)
    assert os.stat(f"{d.dir}/state/audit.jsonl").st_mode & 0o777 == 0o640
    done = ctl(d, "-j", "audit", "show", "--last", "250")
    shown = [e["reason"].split()[0] for e in json.loads(done.stdout)]
    assert shown == [f"{i:04}" for i in range(250, 500)]


def test_audit_of_approvals(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql_ = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 42")
    a = d.approval()
    d.ctl("approval.approve", id=a["id"])
    assert psql_.communicate(timeout=10)[0] == "42\n"
    [e] = events(d, "approval.decided")
    assert (e["agent"], e["target"], e["approved"], e["by"]) == (
        "bot", "shop", True, "root (uid 0)")
    [g] = events(d, "grant.new")
    d.ctl("grant.revoke", id=g["grant"], reason="enough")
    [end] = events(d, "grant.end")
    assert end["grant"] == g["grant"] and end["reason"] == "grant_revoked"
    d.ctl("policy.reload")
    assert events(d, "policy.reload")[0]["changed"] is False
    done = ctl(d, "audit")
    assert done.returncode == 0 and "approval.decided" in done.stdout
