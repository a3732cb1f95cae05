# SPDX-License-Identifier: MIT
"""What an agent reaches besides targets: default deny, AF_UNIX sockets, older connections."""
import contextlib
import os
import platform
import re
import socket
import subprocess
import sys

import pytest
from harness import BUILD, policy, wait_for

KERNEL = tuple(int(n) for n in platform.release().split(".")[:2])
DIAL = """
import socket, sys
kind, where, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in where else socket.AF_INET
if kind == "unix":
    s = socket.socket(socket.AF_UNIX)
    where = "\\0" + where[1:] if where[0] == "@" else where
else:
    s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(5)
try:
    if kind == "udp":
        s.sendto(b"x", (where, port))
    else:
        s.connect(where if kind == "unix" else (where, port))
    print("ok")
except OSError as e:
    print(type(e).__name__)
"""
HOLD = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
s.settimeout(30)
try:
    print("ended" if not s.recv(1) else "data", flush=True)
except OSError as e:
    print(type(e).__name__, flush=True)
"""


@contextlib.contextmanager
def server(family=socket.AF_INET, address=("127.0.0.1", 0)):
    with socket.socket(family) as s:
        s.bind(address)
        s.listen(16)
        yield s


def dial(d, kind, where, port=0):
    return d.run([sys.executable, "-c", DIAL, kind, where, str(port)]).stdout.strip()


def kernel(d):
    return d.ctl("status")["kernel"]


def with_rules(text, rules):
    return text.replace("bot: { cgroup: $CGROUP }", "bot: { cgroup: $CGROUP, %s }" % rules)


def test_default_deny(daemon, pg):
    with server() as free, server() as listed:
        port, ok = free.getsockname()[1], listed.getsockname()[1]
        d = daemon(with_rules(policy(pg.port),
                              f'default: deny, allow: ["127.0.0.1:{ok}/tcp"]'))
        assert d.psql(pg.port, "-Atc", "SELECT 40 + 2") == "42\n"
        assert dial(d, "tcp", "127.0.0.1", ok) == "ok"
        before = kernel(d)["denied_default"]
        for kind, where in (("tcp", "127.0.0.1"), ("tcp", "::1"), ("udp", "127.0.0.1"),
                            ("tcp", "192.0.2.1"), ("udp", "2001:db8::1")):
            assert dial(d, kind, where, port) == "PermissionError", (kind, where)
        assert dial(d, "udp", "127.0.0.1", ok) == "PermissionError"
        assert kernel(d)["denied_default"] == before + 6
        out = subprocess.run([f"{BUILD}/tidegate", "-c", d.config_path, "status"],
                             capture_output=True, text=True).stdout
        assert re.search(r"not closed +family,.*`tidegate feature probe`", out), out
        assert "family" in [g["way"] for g in d.ctl("status")["gaps"]]
        assert "denied_default" in out and "neither a target nor listed" in out
        # A reload opens it; the other list is gone.
        d.write_config(with_rules(policy(pg.port),
                                  f'default: deny, allow: ["127.0.0.0/8:{port}"]'))
        d.ctl("policy.reload")
        assert "denied_default: 6 more: refused: neither a target nor listed" in d.log()
        assert dial(d, "tcp", "127.0.0.1", port) == "ok"
        assert dial(d, "tcp", "127.0.0.1", ok) == "PermissionError"
        agent = d.ctl("agent.list")[0]
        assert (agent["default"], agent["allowed"], agent["unix"]) == ("deny", 1, "guard")
        # Kept while the daemon is down.
        d.kill()
        assert dial(d, "tcp", "127.0.0.1", ok) == "PermissionError"
        d.start()
        d.write_config(policy(pg.port))
        d.ctl("policy.reload")
        assert dial(d, "tcp", "127.0.0.1", ok) == "ok"


@pytest.mark.skipif(KERNEL < (6, 7), reason="this kernel has no connect_unix")
def test_unix_sockets(daemon, pg):
    real = f"{pg.dir}/.s.PGSQL.{pg.port}"
    d = daemon(policy(pg.port))
    folder = d.dir
    with server(socket.AF_UNIX, f"{folder}/own") as own, \
            server(socket.AF_UNIX, f"\0tidegate-{d.tag}") as abstract:
        assert own and abstract
        assert dial(d, "unix", f"{folder}/own") == "ok"
        assert dial(d, "unix", f"@tidegate-{d.tag}") == "ok"
        # PostgreSQL's socket is known by its name where the path is relative.
        assert dial(d, "unix", real) == "ok"
        out = d.run([sys.executable, "-c", DIAL, "unix", os.path.basename(real), "0"], cwd=pg.dir)
        assert out.stdout.strip() == "PermissionError"
        assert dial(d, "unix", "/proc/self/root" + real) == "PermissionError"
        d.write_config(policy(pg.port, target=f"socket: {real}\nsocket_auth: trust"))
        d.ctl("policy.reload")
        assert dial(d, "unix", real) == "PermissionError"
        assert d.psql(pg.port, "-Atc", "SELECT 1") == "1\n"  # the daemon itself uses it
        d.write_config(with_rules(policy(pg.port),
                                  f'unix: listed, unix_allow: ["{folder}/"]'))
        d.ctl("policy.reload")
        assert dial(d, "unix", f"{folder}/own") == "ok"
        assert dial(d, "unix", f"@tidegate-{d.tag}") == "PermissionError"
        assert dial(d, "unix", real) == "PermissionError"
        d.write_config(with_rules(policy(pg.port), "unix: open"))
        d.ctl("policy.reload")
        assert dial(d, "unix", real) == "ok"
        assert kernel(d)["denied_unix"] == 5


@pytest.mark.skipif(KERNEL < (6, 5), reason="this kernel has no bpf_sock_destroy")
def test_older_connections(daemon, pg):
    """Open when the address becomes a target's; carried into the cgroup afterwards."""
    with server() as listener:
        port = listener.getsockname()[1]
        d = daemon(policy(pg.port))
        older = d.popen([sys.executable, "-c", HOLD, str(port)])
        assert older.stdout.readline() == "connected\n"
        d.write_config(policy(port))
        d.ctl("policy.reload")
        assert older.stdout.readline().strip() in ("ConnectionAbortedError",
                                                   "ConnectionResetError", "ended")
        older.wait()
        assert f"its connection to shop, 127.0.0.1:{port} (uid 0) was closed" in d.log()
        carried = subprocess.Popen([sys.executable, "-c", HOLD, str(port)], text=True,
                                   stdout=subprocess.PIPE)
        assert carried.stdout.readline() == "connected\n"
        with open(f"{d.cgroup}/cgroup.procs", "w") as f:
            f.write(str(carried.pid))
        assert carried.stdout.readline().strip() in ("ConnectionAbortedError",
                                                     "ConnectionResetError", "ended")
        carried.wait()
        assert kernel(d)["swept"] == 2


SERVE = """
import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(KERNEL < (6, 5), reason="this kernel has no bpf_sock_destroy")
def test_older_connections_in_another_namespace(daemon, pg):
    """The same, where agents have a network namespace with a server of their own."""
    gone = ("ConnectionAbortedError", "ConnectionResetError", "ended")
    d = daemon(policy(pg.port))
    with subprocess.Popen(["unshare", "-n", "sh", "-c",
                           f"ip link set lo up && exec {sys.executable} -c '{SERVE}'"],
                          text=True, stdout=subprocess.PIPE) as there:
        port = int(there.stdout.readline())
        hold = ["nsenter", f"--net=/proc/{there.pid}/ns/net", sys.executable, "-c", HOLD, str(port)]
        older = d.popen(hold)
        assert older.stdout.readline() == "connected\n"
        wait_for("the namespace", lambda: d.ctl("status")["namespaces"])
        d.write_config(policy(port))
        d.ctl("policy.reload")
        assert older.stdout.readline().strip() in gone
        older.wait()
        assert f"its connection to shop, 127.0.0.1:{port} (uid 0) was closed" in d.log()
        carried = subprocess.Popen(hold, text=True, stdout=subprocess.PIPE)
        assert carried.stdout.readline() == "connected\n"
        with open(f"{d.cgroup}/cgroup.procs", "w") as f:
            f.write(str(carried.pid))
        assert carried.stdout.readline().strip() in gone
        carried.wait()
        assert kernel(d)["swept"] == 2
        there.kill()
    # Nothing of it holds the namespace.
    wait_for("the namespace to be let go", lambda: not d.ctl("status")["namespaces"])
