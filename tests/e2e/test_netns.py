# SPDX-License-Identifier: MIT
"""Agents in network namespaces and containers other than the daemon's."""
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time

import pytest
from harness import BUILD, PGBIN, SLOW, Daemon, answered, policy, wait_for

ONE = ["-At", "-c", "SELECT 41 + 1"]


def psql_words(pg, *args):
    return ["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d", "shop",
            *(args or ONE)]


def in_new_netns(d, pg, *args, before="ip link set lo up", unshare=("-n",), timeout=60):
    """psql as an agent in a namespace made for it."""
    script = f"{before} && exec {shlex.join(psql_words(pg, *args))}"
    return d.run(["unshare", *unshare, "sh", "-c", script], timeout=timeout).stdout


def namespaces(d):
    return d.ctl("status")["namespaces"]


def listener_ports(d):
    """What the kernel's map says, by namespace."""
    out = subprocess.run([f"{BUILD}/tidegate", "-j", "-f", f"/sys/fs/bpf/tidegate-{d.tag}", "map",
                          "dump", "tg_listeners"], text=True, capture_output=True)
    return {row["netns_cookie"]: row["port"] for row in json.loads(out.stdout)}


def none_left(d):
    wait_for("the namespaces to be let go", lambda: not namespaces(d), 10)


@pytest.fixture(scope="module")
def d(pg):
    one = Daemon(policy(pg.port))
    if not one.steering:
        why = one.ctl("status")["bpf"]
        one.stop()
        pytest.skip("no BPF on this host: " + why)
    yield one
    one.stop()


def refused(d):
    return d.ctl("status")["kernel"]["denied_no_listener"]


def test_unshare(d, pg):
    before = refused(d)
    assert in_new_netns(d, pg) == "42\n"
    none_left(d)
    assert d.ctl("status")["kernel"]["netns_told"] >= 1
    assert refused(d) == before  # it was in time


# Connects as fast as it can in a namespace that it has just made, until lo is what is missing:
# then it has been steered. A fork tells of it, as an exec would.
RACE = """
import ctypes, errno, os, socket, sys, time
libc = ctypes.CDLL(None)
for _ in range(int(sys.argv[2])):
    assert libc.unshare(0x40000000) == 0
    pid = os.fork()
    if pid == 0:
        began = time.perf_counter()
        while True:
            with socket.socket() as s:
                e = s.connect_ex(("127.0.0.1", int(sys.argv[1])))
            if e == errno.ENETUNREACH:
                break
            assert e == errno.ECONNREFUSED, e
            time.sleep(0.00005)
        print((time.perf_counter() - began) * 1000, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.005)
"""


def test_how_soon(daemon, pg):
    """Until the listener is there connections are refused, also at a fail-open target."""
    d = daemon(policy(pg.port, target="fail_open: true"))
    out = d.run(["/usr/bin/python3", "-c", RACE, str(pg.port), "50"]).stdout.split()
    ms = sorted(map(float, out))
    print(f"ready after {ms[25]:.2f} ms (p50), {ms[-1]:.2f} ms (max)")
    assert len(ms) == 50  # each was served in the end; how soon is a matter of the machine's load
    assert not d.ctl("status")["kernel"]["failed_open"]
    none_left(d)


def test_named_namespace_is_let_go(d, pg):
    name = f"tg-{d.tag}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        for _ in range(2):  # its sockets are closed in between, though it stays
            done = d.run(["ip", "netns", "exec", name, *psql_words(pg)])
            assert done.stdout == "42\n"
            none_left(d)
            wait_for("each process to close them", lambda: subprocess.run(
                ["ip", "netns", "exec", name, "ss", "-Htln"], text=True,
                capture_output=True).stdout == "")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_many_processes_one_namespace(d, pg):
    """Whoever was seen first may end first: the listeners stay as long as anybody is there."""
    last = shlex.join(psql_words(pg))
    with d.popen(["unshare", "-n", "sh", "-c",
                  f"ip link set lo up; (sleep 3; {last}) & exec true"]) as p:
        wait_for("the namespace", lambda: namespaces(d))
        cookie = namespaces(d)[0]["cookie"]
        time.sleep(1.5)
        assert [n["cookie"] for n in namespaces(d)] == [cookie]
        assert p.communicate(timeout=30)[0] == "42\n"
    none_left(d)


def test_lo_down(d, pg):
    before = d.counters()["netns_lo_down"]
    out = d.popen(["unshare", "-n", "sh", "-c", f"{shlex.join(psql_words(pg))}; sleep 4"])
    ns = wait_for("the namespace", lambda: namespaces(d))[0]
    assert not ns["lo_up"] and ns["agent"] == "bot" and ns["initial_owner"]
    wait_for("the reason", lambda: d.counters()["netns_lo_down"] == before + 1, 6)
    assert "unreachable" in out.communicate(timeout=30)[0]
    none_left(d)


def test_lo_is_brought_up_if_told(daemon, pg):
    d = daemon(policy(pg.port) + "namespaces: { lo: up }\n")
    # The first process is seen when it is made; psql is executed after it has slept.
    assert in_new_netns(d, pg, before="sleep 0.3") == "42\n"
    assert not d.counters()["netns_lo_down"]


def test_rootless(d, pg):
    """Root in a namespace of its own, where everything but the kernel's answer can be forged."""
    words = shlex.join(psql_words(pg))
    out = d.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn",
                 "sh", "-c", f"ip link set lo up && {words}; sleep 1 & {words}"])
    if "Operation not permitted" in out.stdout or "No space left" in out.stdout:
        pytest.skip("no user namespaces for ordinary users on this host")
    assert out.stdout == "42\n42\n"
    none_left(d)


def test_rootless_owner_is_told(d):
    with d.popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn",
                  "sleep", "3"]) as p:
        if p.poll():
            pytest.skip("no user namespaces for ordinary users on this host")
        assert not wait_for("the namespace", lambda: namespaces(d))[0]["initial_owner"]
        p.kill()


def test_ipv6_without_a_route(pg, daemon):
    """Only lo is there: a target given by IPv6 is reached through it all the same."""
    d6 = daemon(policy(pg.port).replace('"127.0.0.1:', '"[::1]:'))
    words = [w.replace("127.0.0.1", "::1") for w in psql_words(pg)]
    out = d6.run(["unshare", "-n", "sh", "-c", "ip link set lo up; exec " + shlex.join(words)])
    assert out.stdout == "42\n"
    off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"
    out = d6.run(["unshare", "-n", "--mount-proc", "-pf", "sh", "-c",
                  f"ip link set lo up; {off}; exec " + shlex.join(words)])
    assert not answered(out.stdout) and "Cannot assign requested address" in out.stdout


def test_limit(daemon, pg):
    d = daemon(policy(pg.port) + "namespaces: { max: 2 }\n")
    held = [d.popen(["unshare", "-n", "sleep", "60"]) for _ in range(2)]
    wait_for("two namespaces", lambda: len(namespaces(d)) == 2)
    assert "Connection refused" in in_new_netns(d, pg)
    assert d.counters()["netns_limit"] >= 1
    assert len(namespaces(d)) == 2
    held.pop().kill()
    wait_for("one to be let go", lambda: len(namespaces(d)) == 1)
    wait_for("room for another", lambda: in_new_netns(d, pg) == "42\n", 10, 0.5)
    held.pop().kill()


def descriptors(d):
    return os.listdir(f"/proc/{d.process.pid}/fd")


def test_hundred(d, pg):
    words = shlex.join(psql_words(pg))
    before = descriptors(d)
    agents = [d.popen(["unshare", "-n", "sh", "-c", f"ip link set lo up; sleep 1; {words}"])
              for _ in range(100)]
    assert [a.communicate(timeout=120)[0] for a in agents] == ["42\n"] * 100
    none_left(d)
    # None of theirs is left open; the control socket of the last question may still be.
    wait_for("descriptors to be closed", lambda: len(descriptors(d)) <= len(before), 5)


def test_daemon_restarted(d, pg):
    """Who is in a namespace already makes no event: the daemon looks for itself."""
    agent = d.popen(["unshare", "-n", "sh", "-c",
                     f"ip link set lo up; read x; exec {shlex.join(psql_words(pg))}"],
                    stdin=subprocess.PIPE)
    wait_for("the namespace", lambda: namespaces(d))
    old = [listener_ports(d)]
    assert len(old[0]) == 2
    with d.popen(["unshare", "-n", "sleep", "60"]) as gone:  # will be gone when it is back
        wait_for("another", lambda: len(namespaces(d)) == 2)
        d.kill()
        gone.kill()
    assert len(listener_ports(d)) == 3
    d.start()
    assert len(namespaces(d)) == 1 and len(listener_ports(d)) == 2
    assert listener_ports(d) != old[0]
    assert agent.communicate("\n", timeout=30)[0] == "42\n"


def test_worker_restarted(daemon, pg):
    d = daemon(policy(pg.port), workers=1)
    agent = d.popen(["unshare", "-n", "sh", "-c",
                     f"ip link set lo up; read x; exec {shlex.join(psql_words(pg))}"],
                    stdin=subprocess.PIPE)
    wait_for("the namespace", lambda: namespaces(d))
    old = d.children()["worker 0"]
    os.kill(old, 9)
    wait_for("it to be back", lambda: d.children().get("worker 0", old) != old, 5)
    wait_for("it to serve", lambda: d.ctl("status")["workers"][0]["pid"] != old)
    assert agent.communicate("\n", timeout=30)[0] == "42\n"


def test_agent_taken_away(daemon, pg):
    """An agent that is none any more does not keep a namespace."""
    d = daemon(policy(pg.port))
    with d.popen(["unshare", "-n", "sleep", "60"]) as p:
        wait_for("the namespace", lambda: namespaces(d))
        d.write_config(policy(pg.port).replace("$CGROUP", "/nobody"))
        subprocess.run(["kill", "-HUP", str(d.process.pid)], check=True)
        none_left(d)
        assert p.poll() is None
        p.kill()


# --- netns: agent

# In the namespace, but no agent: hands what comes to ADDRESS on to the real server's socket.
FORWARD = """
import socket, sys, threading
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
while True:
    c, _ = server.accept()
    print("accepted", flush=True)
    u = socket.socket(socket.AF_UNIX)
    u.connect(sys.argv[3])
    for pair in ((c, u), (u, c)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""
INSIDE = "10.99.7.1"


def inside_policy(pg):
    return policy(pg.port, target="netns: agent").replace("127.0.0.1:", f"{INSIDE}:")


def psql_inside(pg, *args):
    return [INSIDE if w == "127.0.0.1" else w for w in psql_words(pg, *args)]


@pytest.fixture(params=["root's", "an agent's"])
def inside(request, daemon, pg):
    """(daemon, pid in a namespace with a server of its own, its output, whose it is)"""
    d = daemon(inside_policy(pg))
    words = ["unshare", "-n"] if request.param == "root's" else \
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn"]
    script = (f"ip link set lo up && ip addr add {INSIDE}/32 dev lo && exec python3 -c "
              f"{shlex.quote(FORWARD)} {INSIDE} {pg.port} {pg.dir}/.s.PGSQL.{pg.port}")
    server = subprocess.Popen([*words, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    if server.stdout.readline() != "up\n":
        pytest.skip("no user namespaces for ordinary users on this host")
    yield d, server, request.param
    server.kill()
    server.wait()


def test_target_in_the_agents_namespace(inside, pg):
    """Reached from root's namespace; a server that an agent may have faked gets no connection."""
    d, server, whose = inside
    enter = ["nsenter", f"--net=/proc/{server.pid}/ns/net"]
    out = d.run([*enter, *psql_inside(pg)]).stdout
    if whose == "root's":
        assert out == "42\n"
        # A cancel request goes the same way, more than once.
        for _ in range(2):
            p = d.popen([*enter, *psql_inside(pg, "-c", "SELECT pg_sleep(20)")])
            wait_for("the statement", lambda: "pg_sleep(20)" in pg.sql(
                "SELECT query FROM pg_stat_activity WHERE state = 'active' AND pid <> "
                "pg_backend_pid()"))
            p.send_signal(2)
            assert "canceling statement" in p.communicate(timeout=10)[0]
    else:
        assert "not owned by the initial user namespace" in out and not answered(out)
        assert d.counters()["netns_not_ours"] >= 1
        server.kill()
        assert server.communicate()[0] == ""
        assert b"netns_not_ours" in d.record_text()


def test_target_in_the_agents_namespace_has_no_way_here(daemon, pg):
    """What is not there in the agent's namespace is not looked for in the daemon's."""
    d = daemon(policy(pg.port, target="netns: agent"))
    assert d.run(psql_words(pg)).stdout == "42\n"  # they share it
    out = in_new_netns(d, pg)
    assert not answered(out) and "Connection refused" in out


# --- containers

def image_of_this_host():
    """An image that is empty but for the links into the host's /usr, which is mounted there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "lib", "lib64", "sbin"):
            if os.path.islink(f"/{name}"):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, os.readlink(f"/{name}")
                tar.addfile(link)
        for name in ("usr", "etc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return out.getvalue()


@pytest.fixture(scope="module")
def podman(d):
    """podman(*args): podman run, in the agent's cgroup, on a host that has only cgroup v2."""
    runtimes = [r for r in ("crun", "runc") if shutil.which(r)]
    if not shutil.which("podman") or not runtimes:
        pytest.skip("no containers: podman, and crun or runc, are not installed")
    name = f"localhost/tidegate-e2e-{d.tag}:1"
    done = subprocess.run(["podman", "import", "-q", "-", name], input=image_of_this_host(),
                          capture_output=True)
    if done.returncode:
        pytest.skip("no containers: podman import: " + done.stderr.decode().strip())
    # runc and crun want cgroup v2 at /sys/fs/cgroup, which is elsewhere on a hybrid host.
    mounts = "mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /run && exec "

    def run(*args):
        words = ["podman", "--runtime", run.runtime, "--cgroup-manager=cgroupfs",
                 "--events-backend=none", "run", "--rm", "--network=none", "--log-driver=none",
                 "--pids-limit=-1", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
                 f"--cgroup-parent={d.cgroup_name}", "-v", "/usr:/usr:ro", name, *args]
        return subprocess.Popen(["unshare", "-m", "sh", "-c", mounts + shlex.join(words)],
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL)
    run.image, why = name, []
    for run.runtime in runtimes:  # the first that can
        works = run("/bin/true")
        said = works.communicate(timeout=60 * SLOW)[0]
        if not works.returncode:
            break
        why.append(f"{run.runtime}: {said.strip()}")
    else:
        subprocess.run(["podman", "rmi", "-f", name], capture_output=True)
        pytest.skip("no containers: podman run: " + "; ".join(why))
    yield run
    subprocess.run(["podman", "rmi", "-f", name], capture_output=True)
    for path in (f"{d.cgroup}/conmon", f"{d.cgroup}/libpod_parent"):
        if os.path.isdir(path):
            wait_for("its cgroup to be empty", lambda: try_rmdir(path), 5)


def try_rmdir(path):
    try:
        os.rmdir(path)
        return True
    except OSError:
        return False


def test_container(d, pg, podman):
    """A real psql in a real container, told nothing: through the gate, and known by its id."""
    words = psql_words(pg, "-At", "-c", "SELECT pg_sleep(3), 41 + 1")
    words[0] = f"{PGBIN[0]}/psql"
    before = refused(d)
    p = podman(*words)
    s = wait_for("its session", lambda: d.ctl("session.list"), 20)[0]
    s = d.ctl("session.show", id=s["id"])
    assert f"/libpod-{s['container']}" in s["cgroup"] and len(s["container"]) == 64
    assert s["runtime"] == "podman" and s["image"] == podman.image
    assert s["agent"] == "bot" and s["exe"].endswith("/psql")
    assert s["netns_cookie"] in [n["cookie"] for n in namespaces(d)]
    assert p.communicate(timeout=60)[0] == "|42\n"
    assert refused(d) == before  # the listener was there before psql connected
    none_left(d)
    assert s["container"].encode() in d.record_text()
