# SPDX-License-Identifier: MIT
"""`tidegate agent run`: the command is the agent before its first instruction, and only that."""
import http.server
import os
import pty
import pwd
import shutil
import socket
import subprocess
import threading

import pytest
import harness
from harness import BUILD, policy

HERE = os.path.dirname(os.path.abspath(__file__))
USER = "nobody"

REFUSED = {
    "packet": "EAFNOSUPPORT", "packet_dgram": "EAFNOSUPPORT", "sock_packet": "EPERM",
    "raw": "EPERM", "raw6": "EPERM", "raw_cloexec": "EPERM", "vsock": "EAFNOSUPPORT",
    "xdp": "EAFNOSUPPORT", "alg": "EAFNOSUPPORT", "bluetooth": "EAFNOSUPPORT",
    "family_high_bits": "EAFNOSUPPORT", "socketpair_tipc": "EAFNOSUPPORT",
    "netlink_diag": "EPROTONOSUPPORT", "netlink_netfilter": "EPROTONOSUPPORT",
    "io_uring": "EPERM", "bpf": "EPERM", "user_namespace": "EPERM", "net_namespace": "EPERM",
    "user_and_net": "EPERM", "clone_newuser": "EPERM", "clone3": "ENOSYS", "setns": "EPERM",
    "pidfd_getfd": "EPERM", "ptrace": "EPERM", "process_vm_readv": "EPERM",
    "perf_event_open": "EPERM", "request_key": "EPERM", "keystroke": "EPERM",
    "leave_cgroup": "EACCES", "setuid_program": "EPERM", "capabilities": "EPERM",
    "chown": "EPERM", "descriptors": "EBADF", "low_port": "EACCES",
    "x32": "EPERM",
}
WORKS = ["tcp", "tcp6", "udp", "unix", "unix_pair", "netlink_route", "resolve", "thread", "fork"]


def argv(d, *options, command=("true",), name="bot", user=USER):
    as_user = ["--user", user] if user else []
    return [f"{BUILD}/tidegate", "-c", d.config_path, "agent", "run", name, *as_user, *options,
            "--", *command]


def run(d, *options, stdin=subprocess.DEVNULL, timeout=60, env=None, pass_fds=(), **kw):
    # LeakSanitizer stops the process with ptrace, which the launcher has given up.
    env = dict(os.environ if env is None else env)
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return subprocess.run(argv(d, *options, **kw), stdin=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, env=env,
                          pass_fds=pass_fds)


@pytest.fixture
def setuid_id(tmp_path_factory):
    """`id` of root's with the set-user-id bit, where an agent can run it."""
    path = "/usr/local/bin/tidegate-test-setuid-id-%d" % os.getpid()
    shutil.copy("/usr/bin/id", path)
    os.chmod(path, 0o4755)
    yield path
    os.unlink(path)


@pytest.fixture
def attacks(tmp_path):
    """A copy that every uid can read."""
    path = "/tmp/tidegate-attacks-%d.py" % os.getpid()
    shutil.copy(f"{HERE}/launch_attacks.py", path)
    os.chmod(path, 0o644)
    yield path
    os.unlink(path)


def results(out):
    return dict(line.split(" ", 1) for line in out.splitlines())


def test_attacks(daemon, pg, attacks, setuid_id):
    d = daemon(policy(pg.port))
    master, slave = pty.openpty()
    inherited = socket.create_connection(("127.0.0.1", pg.port))
    os.set_inheritable(inherited.fileno(), True)
    control = [attacks, f"{harness.cgroup_root()}/cgroup.procs", setuid_id]
    done = run(d, command=["/usr/bin/python3", *control], stdin=slave,
               pass_fds=[inherited.fileno()])
    got = results(done.stdout)
    assert done.returncode == 0, done.stdout
    if os.uname().machine != "x86_64":
        got["x32"] = "EPERM"
    assert got.pop("keystroke_high_bits") in ("EPERM", "ENOTTY", "EIO", "OverflowError")
    assert got == {**REFUSED, **{name: "ok" for name in WORKS}}
    # Without the launcher, as the control: these are open to everybody.
    names = ["setuid_program", "netlink_diag", "x32", "clone3", "process_vm_readv", "descriptors"]
    plain = results(subprocess.run(
        ["/usr/bin/python3", *control, *names], stdin=slave, stdout=subprocess.PIPE, text=True,
        preexec_fn=harness.as_user(USER), timeout=60, pass_fds=[inherited.fileno()]).stdout)
    assert not [name for name in names if plain[name] == REFUSED[name]], plain
    os.close(master)
    os.close(slave)
    inherited.close()


MEMORY = """
import os, sys, tempfile
for name in ("mem", "environ", "fd/0"):
    try:
        print(name, open(f"/proc/{sys.argv[1]}/{name}", "rb").fileno() > 0)
    except OSError:
        print(name, "refused")
print("own", open("/proc/self/mem", "rb").fileno() > 0)
child = os.fork() or (__import__("time").sleep(60), os._exit(0))
print("child", open(f"/proc/{child}/mem", "rb").fileno() > 0)
os.kill(child, 9)
with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
    open(f"{a}/x", "w").close()
    os.rename(f"{a}/x", f"{b}/y")
    os.link(f"{b}/y", f"{a}/z")
print("moved")
"""


@pytest.mark.parametrize("options,outside", [((), "refused"), (("--allow-ptrace",), "True")])
def test_memory_of_others(daemon, pg, options, outside):
    """What ptrace() may not, /proc/PID/mem must not: somebody of the same uid would connect instead."""
    d = daemon(policy(pg.port))
    victim = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL,
                              preexec_fn=harness.as_user(USER))
    try:
        out = run(d, *options, command=["/usr/bin/python3", "-c", MEMORY, str(victim.pid)]).stdout
    finally:
        victim.kill()
        victim.wait()
    got = results(out.replace("moved", "moved True"))
    assert got == {"mem": outside, "environ": outside, "fd/0": outside, "own": "True", "child": "True",
                   "moved": "True"}, out


def test_psql_is_steered(daemon, pg):
    d = daemon(policy(pg.port))
    psql = ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
            "shop", "-c", "SELECT 42"]
    done = run(d, command=psql)
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert d.ctl("status")["kernel"]["steered"] == 1
    session = d.record_text()
    assert b'"agent":"bot"' in session.replace(b" ", b"")


def test_curl_is_steered(daemon, pg):
    """Not PostgreSQL: what curl says to a guarded address ends at the gate, not at the server."""
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        d = daemon(policy(port))
        curl = ["curl", "-s", "--max-time", "10", f"http://127.0.0.1:{port}/"]
        assert run(d, command=curl).returncode != 0
        assert d.ctl("status")["kernel"]["steered"] == 1 and not hits
        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as free:
            threading.Thread(target=free.serve_forever, daemon=True).start()
            curl[-1] = f"http://127.0.0.1:{free.server_port}/free"
            assert run(d, command=curl).stdout == "hello"
            free.shutdown()
        server.shutdown()
    assert hits == ["/free"]


def test_cgroup_is_made_and_exit_status_kept(daemon, pg):
    d = daemon(policy(pg.port))
    done = run(d, "--cgroup", f"{d.cgroup_name}/job/one",
               command=["sh", "-c", "grep ^0:: /proc/self/cgroup; id -un; exit 7"])
    assert done.stdout == f"0::{d.cgroup_name}/job/one\n{USER}\n"
    assert done.returncode == 7
    os.rmdir(f"{d.cgroup}/job/one")
    os.rmdir(f"{d.cgroup}/job")
    os.rmdir(d.cgroup)  # the agent's own, as after a reboot
    done = run(d, command=["grep", "^0::", "/proc/self/cgroup"])
    assert (done.returncode, done.stdout) == (0, f"0::{d.cgroup_name}\n")
    kill = run(d, command=["sh", "-c", "kill -TERM $$"])
    assert kill.returncode == -15
    assert run(d, command=["/no/such/program"]).returncode == 127
    assert run(d, command=["/etc/passwd"]).returncode == 126


def test_guarded_while_the_daemon_is_down(daemon, pg):
    d = daemon(policy(pg.port))
    d.kill()
    psql = ["psql", "-X", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-c", "SELECT 1"]
    done = run(d, command=psql)
    assert done.returncode == 2 and "refused" in done.stdout


def test_not_held_is_not_started(daemon, pg):
    d = daemon(policy(pg.port))
    pins = f"/sys/fs/bpf/tidegate-{d.tag}/v1"
    d.kill()
    os.rename(f"{pins}/links/tg_connect6", f"{pins}/links/away")
    done = run(d, command=["echo", "started"])
    assert done.returncode == 1 and "tg_connect6 is not attached" in done.stdout
    assert "started" not in done.stdout.splitlines()
    os.rename(f"{pins}/links/away", f"{pins}/links/tg_connect6")
    assert run(d, command=["echo", "started"]).stdout == "started\n"
    other = harness.Daemon.__new__(harness.Daemon)
    other.config_path = f"{d.dir}/other.yaml"
    with open(d.config_path) as f, open(other.config_path, "w") as g:
        g.write(f.read().replace(d.cgroup_name, d.cgroup_name + "-other"))
    done = run(other, command=["echo", "started"])
    assert done.returncode == 1 and "does not watch cgroup" in done.stdout


def test_descriptors(daemon, pg, tmp_path):
    d = daemon(policy(pg.port))
    a, b = socket.socketpair()
    tcp = socket.create_connection(("127.0.0.1", pg.port))
    show = ["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"]
    done = run(d, stdin=tcp, command=show)
    assert done.returncode == 2 and "standard input is a network socket" in done.stdout
    done = run(d, "--keep-stdio-sockets", stdin=tcp, command=show)
    assert done.returncode == 2 and "standard input is a network socket" in done.stdout
    done = run(d, stdin=a, command=show)
    assert done.returncode == 2 and "--keep-stdio-sockets" in done.stdout
    assert run(d, "--keep-stdio-sockets", stdin=a, command=show).returncode == 0
    reading, writing = os.pipe()
    fds = [reading, writing, tcp.fileno(), a.fileno()]
    done = run(d, "--pass-fd", str(writing), command=["bash", "-c", f"echo hi >&{writing}"],
               pass_fds=fds)
    assert done.returncode == 0 and os.read(reading, 9) == b"hi\n"
    for fd in (tcp.fileno(), a.fileno()):
        done = run(d, "--pass-fd", f"{reading},{fd}", command=show, pass_fds=fds)
        assert done.returncode == 2 and "sockets never" in done.stdout
    tun = os.open("/dev/null", os.O_RDONLY)
    done = run(d, "--pass-fd", str(tun), command=show, pass_fds=[tun])
    assert done.returncode == 2 and "only files and pipes" in done.stdout
    assert "no such descriptor" in run(d, "--pass-fd", "777", command=show).stdout
    for fd in (reading, writing, tun):
        os.close(fd)


def test_users(daemon, pg):
    d = daemon(policy(pg.port))
    env = {k: v for k, v in os.environ.items() if not k.startswith("SUDO_")}
    done = run(d, user=None, env=env)
    assert done.returncode == 2 and "as which user" in done.stdout
    done = run(d, user=None, env={**env, "SUDO_UID": "0"})
    assert done.returncode == 2 and "do not run as root" in done.stdout
    uid = pwd.getpwnam(USER).pw_uid
    done = run(d, user=None, env={**env, "SUDO_UID": str(uid)}, command=["id", "-un"])
    assert done.stdout == f"{USER}\n"
    done = run(d, user=f"{USER}:daemon", command=["sh", "-c", "id -gn; id -Gn"])
    assert done.stdout.split("\n")[0] == "daemon"
    done = run(d, user="tidegate")
    assert done.returncode == 2 and "the daemon's own" in done.stdout
    done = run(d, user="root", command=["sh", "-c", "id -u; grep CapEff /proc/self/status; "
                                                    "echo 1 >/proc/sys/kernel/panic || echo no"])
    assert done.stdout.startswith("Warning: root")
    assert "\n0\nCapEff:\t0000000000000000\n" in done.stdout
    assert run(d, name="nobody-knows").returncode == 1


def test_agent_by_uid(daemon, pg):
    uid = pwd.getpwnam("games").pw_uid
    d = daemon(policy(pg.port).replace("cgroup: $CGROUP", f"uid: [{uid}]"))
    psql = ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "agent", "-d",
            "shop", "-c", "SELECT 42"]
    done = run(d, user=None, command=psql)
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert d.ctl("status")["kernel"]["steered"] == 1
    done = run(d, user=USER, command=psql)
    assert done.returncode == 2 and "is none of its" in done.stdout


def test_options_open_what_they_name(daemon, pg, attacks, setuid_id):
    d = daemon(policy(pg.port))
    names = ["io_uring", "user_and_net", "process_vm_readv", "clone3", "packet", "bpf",
             "pidfd_getfd", "setuid_program"]
    control = ["/usr/bin/python3", attacks, "/dev/null", setuid_id, *names]
    plain = results(run(d, command=control).stdout)
    assert plain == {name: REFUSED[name] for name in names}
    got = results(run(d, "--allow-io-uring", "--allow-namespaces", "--allow-ptrace",
                      command=control).stdout)
    opened = {name for name in names if got[name] != REFUSED[name]}
    # Where the host itself forbids io_uring or user namespaces, EPERM is its word.
    assert {"process_vm_readv", "clone3"} <= opened
    assert not opened & {"packet", "bpf", "pidfd_getfd", "setuid_program"}
