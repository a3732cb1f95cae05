# SPDX-License-Identifier: MIT
"""The service manager keeps the listeners from one daemon to the next: who connects meanwhile waits."""
import json
import os
import socket
import subprocess

import pytest

import harness
from harness import BUILD, policy, wait_for
from service_manager import Manager

KINDS = ["dns4", "dns6", "tcp4", "tcp6", "udp4", "udp6"]


@pytest.fixture
def manager():
    m = Manager()
    yield m
    m.close()


@pytest.fixture
def kept(daemon, pg, manager):
    """A daemon whose listeners are kept, and a gateway beside the steered ones."""
    gate = harness.free_port()
    config = policy(pg.port, target=f'listen: "127.0.0.1:{gate}"').replace(
        "bot: {", "bot: { source: [127.0.0.1/32],")
    d = daemon(config, manager=manager, workers=1)
    d.gate = gate
    wait_for("all of them", lambda: len(manager.store) == 7)
    return d


def kinds(manager):
    return [name.split("-")[0] for name in manager.names()]


def end(d, signal="terminate"):
    getattr(d.process, signal)()
    d.process.wait(20)


def listeners(d):
    out = subprocess.run([f"{BUILD}/tidegate", "-j", "-f", f"/sys/fs/bpf/tidegate-{d.tag}", "map",
                          "dump", "tg_listeners"], text=True, capture_output=True, check=True)
    return json.loads(out.stdout)


def at_the_server(pg):
    return pg.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent'").strip()


def waits(d, pg):
    """An agent that begins while no daemon runs."""
    agent = d.psql_later(pg.port, "-At", "-c", "SELECT 40 + 2")
    with pytest.raises(subprocess.TimeoutExpired):
        agent.wait(0.7)
    assert at_the_server(pg) == "0"
    return agent


def refused(d, pg):
    """The server is there: it is the kernel side that says so."""
    text = d.psql(pg.port, "-c", "SELECT 1")
    return "Connection refused" in text or "Operation not permitted" in text


def answer(agent):
    return agent.communicate(timeout=20 * harness.SLOW)[0].strip()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_restart(kept, pg, manager, how):
    before, names = listeners(kept), manager.names()
    assert kinds(manager) == sorted(KINDS + ["gateway"])
    assert kept.psql(pg.port, "-At", "-c", "SELECT 1").strip() == "1"
    end(kept, how)
    agent = waits(kept, pg)
    at_gate = harness.Raw(kept.gate, login=False)
    at_gate.send(harness.startup())
    kept.start()
    assert answer(agent) == "42"
    assert listeners(kept) == before and manager.names() == names
    assert at_gate.until(b"Z")[-1][0] == b"Z"
    at_gate.close()
    assert not [line for line in kept.log().splitlines() if "not used" in line or "nobody here" in line]
    # Once more, over an upgrade.
    kept.ctl("daemon.upgrade", timeout=60)
    assert manager.names() == names
    end(kept, how)
    agent = waits(kept, pg)
    kept.start()
    assert answer(agent) == "42"
    assert kept.ctl("status")["integrity"]["changes"] == 0


def test_after_a_stop(kept, pg, manager):
    """A plain stop: the service manager keeps nothing, and agents are refused."""
    end(kept)
    manager.forget()
    assert refused(kept, pg)
    kept.start()
    assert kept.psql(pg.port, "-At", "-c", "SELECT 1").strip() == "1"


def closed(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def test_reload(kept, pg, manager):
    """What is not listened on any more is not kept."""
    harness.reload_with(kept, f'listen: "127.0.0.1:{kept.gate}"', "fail_open: false")
    wait_for("the gateway to go", lambda: kinds(manager) == sorted(KINDS))
    wait_for("the worker to close its copy", lambda: closed(kept.gate))
    harness.reload_with(kept, "fail_open: false", f'listen: "127.0.0.1:{kept.gate}"')
    wait_for("the gateway to come", lambda: kinds(manager) == sorted(KINDS + ["gateway"]))


def test_that_cannot_start(kept, pg, manager):
    """It knows that it will not serve them: who waits is told, and so is who comes."""
    end(kept)
    agent = waits(kept, pg)
    with open(kept.config_path, "a") as f:
        f.write("what: is this\n")
    with pytest.raises(AssertionError):
        kept.start()
    wait_for("nothing to be kept", lambda: not manager.store)
    assert "closed the connection" in answer(agent) or "reset" in answer(agent)
    assert refused(kept, pg)


def test_ids(kept, pg, manager):
    """Who waits is who he was, whatever the configuration says first."""
    end(kept)
    agent = waits(kept, pg)
    with open(kept.config_path) as f:
        text = f.read()
    other = "agents:\n  aaa: { cgroup: /tidegate-e2e-nobody }\n"
    with open(kept.config_path, "w") as f:
        f.write(text.replace("agents:\n", other))
    kept.start()
    assert answer(agent) == "42"
    # Its id is lost: nobody takes it for another agent.
    end(kept)
    agent = waits(kept, pg)
    os.unlink(f"{kept.dir}/state/agents.json")
    before = kept.log()
    kept.start()
    assert answer(agent) != "42"
    assert kept.counters()["unknown_agent"] == 1, kept.log()[len(before):]
    assert kept.psql(pg.port, "-At", "-c", "SELECT 1").strip() == "1"


def tcp(address="127.0.0.1", listen=True):
    s = socket.socket()
    s.bind((address, 0))
    if listen:
        s.listen(8)
    return s.detach()


def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    return s.detach()


def null():
    return os.open("/dev/null", os.O_RDONLY)


# What is put in the place of what; None: nothing.
WRONG = [
    ({"tcp4": null}, "another kind of socket"),
    ({"dns4": udp}, "another kind of socket"),
    ({"tcp4": lambda: tcp(listen=False)}, "not listening"),
    ({"tcp4": lambda: tcp("127.0.0.2")}, "bound to another address"),
    ({"tcp4": tcp}, "on different ports"),
    ({"tcp4": tcp, "tcp6": None}, "not those that the kernel's maps have"),
    ({"udp4": None}, "not all of them"),
]


@pytest.mark.parametrize("instead,why", WRONG)
def test_wrong(kept, pg, manager, instead, why):
    """One that is not what it was: none of its set is used, and that is said."""
    before = listeners(kept)
    end(kept)
    agent = waits(kept, pg)
    for name, fd in list(manager.store):
        kind = name.split("-")[0]
        if kind in instead:
            if instead[kind]:
                manager.replace(name, instead[kind]())
            else:
                manager.store.remove((name, fd))
            os.close(fd)
    manager.put("stored", tcp())
    manager.put("gateway-1", tcp())
    kept.start()
    log = kept.log()
    assert f"cut off: {why}" in log and '"stored", which nobody here needs' in log, log
    assert '"gateway-1", which nobody here needs' in log
    assert answer(agent) != "42"
    wait_for("the new ones to be kept", lambda: kinds(manager) == sorted(KINDS + ["gateway"]))
    assert listeners(kept) != before
    assert kept.psql(pg.port, "-At", "-c", "SELECT 1").strip() == "1"
    if (instead, why) != WRONG[0]:
        return
    # The new ones are as good.
    end(kept)
    agent = waits(kept, pg)
    kept.start()
    assert answer(agent) == "42"


def test_wrong_gateway(kept, pg, manager):
    """At the right address, but no longer the socket that was kept under the name."""
    end(kept)
    (name,) = [n for n in manager.names() if n.startswith("gateway")]
    (fd,) = [fd for n, fd in manager.store if n == name]
    manager.store.remove((name, fd))
    manager.put("gateway-1", fd)
    kept.start()
    assert "gateway-1, which the service manager kept, is not what it was" in kept.log()
    wait_for("the new one to be kept", lambda: kinds(manager) == sorted(KINDS + ["gateway"]))
    assert "gateway-1" not in manager.names()


def test_for_another_process(kept, pg, manager):
    """Descriptors that are not meant for us are left alone, and nothing breaks."""
    end(kept)
    manager.forget()
    kept.env.update(LISTEN_PID="1", LISTEN_FDS="3", LISTEN_FDNAMES="a:b:c")
    kept.start()
    assert kept.psql(pg.port, "-At", "-c", "SELECT 1").strip() == "1"


IN_NETNS = """
ip link set lo up
while [ ! -e {dir}/go ]; do sleep 0.1; done
psql -X -At -h 127.0.0.1 -p {port} -U agent -d shop -c "SELECT 40 + 2"
while [ ! -e {dir}/gone ]; do sleep 0.1; done
"""


def test_namespace(kept, pg, manager, tmp_path):
    """The listeners in an agent's network namespace, and that they do not keep it alive."""
    script = IN_NETNS.format(dir=tmp_path, port=pg.port)
    agent = kept.popen(["unshare", "-n", "sh", "-c", script])
    wait_for("its listeners", lambda: kept.ctl("status")["namespaces"])
    wait_for("them to be kept", lambda: len(manager.store) == 13)
    (before,) = kept.ctl("status")["namespaces"]
    names, found = manager.names(), listeners(kept)
    end(kept)
    (tmp_path / "go").touch()
    with pytest.raises(subprocess.TimeoutExpired):
        agent.wait(0.7)
    kept.start()
    assert agent.stdout.readline().strip() == "42"
    (after,) = kept.ctl("status")["namespaces"]
    assert {k: after[k] for k in ("cookie", "port", "agent", "initial_owner")} == {
        k: before[k] for k in ("cookie", "port", "agent", "initial_owner")}
    assert manager.names() == names and listeners(kept) == found
    assert kept.ctl("status")["integrity"]["changes"] == 0
    # While no daemon looks the last one leaves: the next daemon lets go.
    end(kept)
    (tmp_path / "gone").touch()
    agent.wait(10)
    kept.start()
    wait_for("the namespace to be let go", lambda: not kept.ctl("status")["namespaces"])
    wait_for("nothing of it to be kept", lambda: kinds(manager) == sorted(KINDS + ["gateway"]))
