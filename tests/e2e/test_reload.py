# SPDX-License-Identifier: MIT
"""A reload reaches listeners, and sessions that are only being opened."""
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import harness
import pytest
from harness import connect, message, refused, reload_with, startup, wait_for, works


def stopped(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


def test_reload_reaches_sessions_that_are_being_opened(gateway, pg):
    d = gateway(workers=1)
    # Which message the parent reads first is not in our hands, so several times.
    for _ in range(6):
        reload_with(d, "effect: any, do: allow", "effect: any, do: allow")
        with open(d.config_path) as f:
            text = f.read()
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(f"{d.dir}/run/control.sock")
            d.ctl("status")  # it is accepted by now
            d.process.send_signal(signal.SIGSTOP)
            wait_for("it to stop", lambda: stopped(d.process.pid))
            with open(d.config_path, "w") as f:
                f.write(text.replace("effect: any, do: allow", "effect: read, do: allow"))
            body = b'{"v":1,"op":"policy.reload","args":{}}'
            control.sendall(struct.pack("<I", len(body)) + body)
            s = socket.create_connection(("127.0.0.1", d.gate))
            time.sleep(0.1)  # the worker has asked who it is, after the reload was asked for
            d.process.send_signal(signal.SIGCONT)
            assert d.receive(control)["ok"]
        s.settimeout(10 * harness.SLOW)
        s.sendall(startup() + message(b"Q", b"CREATE TEMP TABLE no (a int)\0"))
        out = b""
        while out.count(b"Z\0\0\0\5I") < 2:
            part = s.recv(65536)
            assert part, out
            out += part
        assert b"42501" in out, out
        with open(d.config_path, "w") as f:
            f.write(text)


def opens(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_reload_moves_a_listener(gateway, pg):
    d = gateway(workers=2)
    old, cur = d.gate, connect(d, pg).cursor()
    d.gate = harness.free_port()
    reload_with(d, f'listen: "127.0.0.1:{old}"', f'listen: "127.0.0.1:{d.gate}"')
    wait_for("the old one to be closed", lambda: not opens(old))
    assert all(works(d, pg) for _ in range(10))
    cur.execute("SELECT 'lives on'")
    assert cur.fetchone() == ("lives on",)
    # One that starts later gets the new one, and not the old one.
    os.kill(d.children()["worker 0"], 9)
    wait_for("its death to be noticed", lambda: d.ctl("status")["workers"][0]["restarts"])
    wait_for("all workers", d.workers_up)
    wait_for("service", lambda: works(d, pg), 5)
    assert not opens(old)
    assert [w["restarts"] for w in d.ctl("status")["workers"]] == [1, 0]


def somebody_else_can_listen(port):
    code = ("import socket, sys; s = socket.socket(); "
            "s.setsockopt(socket.SOL_SOCKET, int(sys.argv[2]), 1); "
            "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen()")
    return any(subprocess.run([sys.executable, "-c", code, str(port), str(option)], cwd="/",
                              preexec_fn=harness.as_user("nobody"), stderr=subprocess.DEVNULL
                              ).returncode == 0
               for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT))


def test_reload_widens_a_listener_on_its_port(gateway, pg):
    d = gateway(workers=2, target="listen_by_owner: false\n")
    cur = connect(d, pg).cursor()
    assert not opens(d.gate, "127.0.0.2")
    for old, new in (("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")):
        reload_with(d, f'listen: "{old}:{d.gate}"', f'listen: "{new}:{d.gate}"')
        wide = new == "0.0.0.0"
        wait_for("the change", lambda: opens(d.gate, "127.0.0.2") == wide)
        wait_for("service", lambda: works(d, pg))  # the old one may reset who comes last
        assert all(works(d, pg) for _ in range(10))
        assert not somebody_else_can_listen(d.gate)
    cur.execute("SELECT 'lives on'")


def test_reload_swaps_the_listeners_of_two_targets(gateway, pg):
    dead, second = harness.free_port(), harness.free_port()
    d = gateway(workers=2)
    reload_with(d, "policy:\n", "  other:\n"
                f'    address: "127.0.0.1:{dead}"\n    protocol: postgresql\n'
                f'    listen: "127.0.0.1:{second}"\npolicy:\n')
    reload_with(d, "targets: [shop]", "targets: [shop, other]")
    assert works(d, pg)
    wait_for("the second", lambda: opens(second))
    with open(d.config_path) as f:
        text = f.read()
    first = d.gate
    with open(d.config_path, "w") as f:
        f.write(text.replace(f"127.0.0.1:{first}", "FIRST").replace(
            f"127.0.0.1:{second}", f"127.0.0.1:{first}").replace("FIRST", f"127.0.0.1:{second}"))
    d.ctl("policy.reload")

    def swapped():
        d.gate = first
        other = not works(d, pg)
        d.gate = second
        return other and works(d, pg)
    wait_for("the swap", swapped)
    assert all(swapped() for _ in range(5))


def test_reload_that_cannot_listen_changes_nothing(gateway, pg):
    d = gateway(workers=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open(d.config_path) as f:
            text = f.read()
        with open(d.config_path, "w") as f:
            f.write(text.replace("effect: any, do: allow", "effect: session, do: allow").replace(
                f"127.0.0.1:{d.gate}", f"127.0.0.1:{port}"))
        with pytest.raises(harness.Refused, match=f"target shop: cannot listen on 127.0.0.1:{port}"):
            d.ctl("policy.reload")
        assert works(d, pg)
        d.process.send_signal(signal.SIGHUP)
        wait_for("the message", lambda: "the old one stays in force" in d.log())
        assert works(d, pg)
    d.gate, old = port, d.gate
    d.ctl("policy.reload")
    wait_for("the old one to be closed", lambda: not opens(old))
    assert refused(connect(d, pg), "SELECT 1")


def test_reload_closes_a_listener(gateway, pg):
    d = gateway(workers=1)
    cur = connect(d, pg).cursor()
    reload_with(d, f'listen: "127.0.0.1:{d.gate}"', "")
    wait_for("it to be closed", lambda: not opens(d.gate))
    cur.execute("SELECT 'lives on'")
    reload_with(d, "protocol: postgresql", f'protocol: postgresql\n    listen: "127.0.0.1:{d.gate}"')
    wait_for("service", lambda: works(d, pg))
