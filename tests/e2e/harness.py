# SPDX-License-Identifier: MIT
"""Real servers and a real daemon for the end-to-end tests, each stopped by its pid."""
import contextlib
import glob
import json
import os
import pwd
import re
import resource
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("O", "build"))
PGBIN = sorted(glob.glob("/usr/lib/postgresql/*/bin"),
               key=lambda p: int(p.split("/")[4]))[-1:]
USERS = ("tidegate", "tidegate-keyd", "tidegate-authd", "tidegate-named")


def sanitizers():
    """What the daemon under test was built with, as for -fsanitize=."""
    try:
        with open(f"{BUILD}/tidegated", "rb") as f:
            text = f.read()
    except FileNotFoundError:
        return []
    return [name for name, mark in (("address", b"__asan_init"),
                                    ("undefined", b"__ubsan_handle_")) if mark in text]


SANITIZERS = sanitizers()
# Deadlines of the tests are those of an optimised build on an idle machine, times this.
SLOW = float(os.environ.get("TIDEGATE_TEST_SLOW", 4 if SANITIZERS else 1))


def assert_grew(kib, limit):
    """Memory of a process; sanitizers keep freed memory back and shadow all of it."""
    assert kib < limit or "address" in SANITIZERS, f"grew by {kib} KiB of {limit}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, seconds=10.0, interval=0.02):
    seconds *= SLOW
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"waited {seconds} s for {what}")


def ensure_users():
    for name in USERS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell",
                            "/usr/sbin/nologin", name], check=True)


def cgroup_root():
    with open("/proc/self/mounts") as f:
        for line in f:
            fields = line.split()
            if fields[2] == "cgroup2":
                return fields[1]
    return None


def as_user(name):
    entry = pwd.getpwnam(name)

    def drop():
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    return drop


class Postgres:
    """A throw-away cluster on 127.0.0.1 and a socket in its own folder."""

    def __init__(self, auth="trust", options=()):
        self.dir = tempfile.mkdtemp(prefix="tidegate-pg-")
        entry = pwd.getpwnam("postgres")
        os.chown(self.dir, entry.pw_uid, entry.pw_gid)
        os.chmod(self.dir, 0o755)
        self.data = os.path.join(self.dir, "data")
        self.port = free_port()
        self.run([f"{PGBIN[0]}/initdb", "-D", self.data, "-A", "trust", "-U", "postgres",
                  "--no-sync", "-E", "UTF8", "--locale=C"])
        if auth != "trust":
            with open(f"{self.data}/pg_hba.conf", "w") as f:
                f.write("local all postgres trust\nhost all postgres 127.0.0.1/32 trust\n"
                        f"host all all 127.0.0.1/32 {auth}\nlocal all all {auth}\n")
        flags = [f"-p {self.port}", "-c listen_addresses=127.0.0.1,::1",
                 f"-c unix_socket_directories={self.dir}", "-c fsync=off",
                 "-c max_connections=300"]
        flags += [f"-c {o}" for o in options]
        self.run([f"{PGBIN[0]}/pg_ctl", "-D", self.data, "-w", "-t", "60", "-l",
                  f"{self.data}/log", "-o", " ".join(flags), "start"])
        with open(f"{self.data}/postmaster.pid") as f:
            self.pid = int(f.readline())

    def run(self, argv):
        subprocess.run(argv, check=True, preexec_fn=as_user("postgres"), cwd="/tmp",
                       stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})

    def sql(self, text, db="postgres", user="postgres"):
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h",
                               "127.0.0.1", "-p", str(self.port), "-U", user, "-d", db],
                              input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGQUIT)
        wait_for("PostgreSQL to stop", lambda: not os.path.exists(f"/proc/{self.pid}"), 20)
        shutil.rmtree(self.dir, ignore_errors=True)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int([line.split()[1] for line in f if line.startswith("VmRSS")][0])


def connect(d, pg=None, **kw):
    """psycopg2 in this process cannot be an agent: a gateway listener serves it."""
    return psycopg2.connect(**{"host": "127.0.0.1", "port": d.gate, "user": "agent",
                               "dbname": "shop", "connect_timeout": int(10 * SLOW), **kw})


def works(d, pg=None):
    try:
        cur = connect(d).cursor()
        cur.execute("SELECT 1")
        return cur.fetchone() == (1,)
    except psycopg2.Error:
        return False


def answered(out, value="42"):
    """What psql said is that value: a line of its own, not a part of a port number."""
    return value in out.split("\n")


def refused(conn, sql):
    try:
        conn.cursor().execute(sql)
    except psycopg2.errors.InsufficientPrivilege:
        return True
    return False


def reload_with(d, old, new):
    with open(d.config_path) as f:
        text = f.read()
    assert old in text
    with open(d.config_path, "w") as f:
        f.write(text.replace(old, new))
    d.ctl("policy.reload")


def verify(d, path):
    return subprocess.run([f"{BUILD}/tidegate", "recording", "verify", path],
                          capture_output=True, text=True)


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def startup(**params):
    params = {"user": "agent", "database": "shop", **params}
    body = b"\0\3\0\0" + b"".join(f"{k}\0{v}\0".encode() for k, v in params.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


HELLO = (message(b"R", b"\0\0\0\0") + message(b"S", b"server_version\x0015.0\0") +
         message(b"S", b"standard_conforming_strings\0on\0") +
         message(b"K", b"\0\0\0\1\0\0\0\2") + message(b"Z", b"I"))
ANSWER = message(b"C", b"SELECT 0\0") + message(b"Z", b"I")


def serve_stub(listener):
    sel = selectors.DefaultSelector()
    sel.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in sel.select():
            if key.fileobj is listener:
                sel.register(listener.accept()[0], selectors.EVENT_READ)
            elif data := key.fileobj.recv(65536):
                key.fileobj.sendall(HELLO if data[4:6] == b"\0\3" else
                                    ANSWER if data[:1] == b"Q" else b"")
            else:
                sel.unregister(key.fileobj)
                key.fileobj.close()


def stub_server(process=False):
    """Logs everybody in and answers queries with nothing: its port, and its process if it has one."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    port = listener.getsockname()[1]
    if not process:
        threading.Thread(target=serve_stub, args=(listener,), daemon=True).start()
        return port
    pid = os.fork()
    if pid == 0:
        serve_stub(listener)
    listener.close()
    return port, pid


def log_in(port, n):
    """So many clients at once."""
    conns = []
    while n:
        batch = [Raw(port, login=False) for _ in range(min(n, 100))]
        for c in batch:
            c.send(startup())
        for c in batch:
            c.until(b"Z")
        conns += batch
        n -= len(batch)
    return conns


class Raw:
    """A client of the protocol as bytes."""

    def __init__(self, port, login=True, timeout=20, rcvbuf=0, host="127.0.0.1"):
        self.s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if rcvbuf:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.s.settimeout(timeout * SLOW)
        self.s.connect((host, port))
        self.buf = b""
        if login:
            self.send(startup())
            self.until(b"Z")

    def send(self, *parts):
        self.s.sendall(b"".join(parts))

    def query(self, sql):
        self.send(message(b"Q", sql.encode() + b"\0"))

    def next(self):
        """One message: (type, body); (None, b"") at the end."""
        while len(self.buf) < 5 or len(self.buf) < self.total():
            part = self.s.recv(1 << 16)
            if not part:
                assert not self.buf, self.buf
                return None, b""
            self.buf += part
        n = self.total()
        out, self.buf = self.buf[:n], self.buf[n:]
        return out[:1], out[5:]

    def total(self):
        return 1 + struct.unpack(">I", self.buf[1:5])[0]

    def until(self, kind):
        """All messages up to one of @kind, or to the end."""
        got = []
        while True:
            got.append(self.next())
            if got[-1][0] in (kind, None):
                return got

    def rest(self):
        """What comes until the end, or a reset."""
        parts = [self.buf]
        try:
            while part := self.s.recv(1 << 20):
                parts.append(part)
        except ConnectionError:
            pass
        self.buf = b"".join(parts)
        return self.buf

    def reset(self):
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.s.close()

    def close(self):
        self.s.close()


def private_kib(pid):
    """Without the journal, which is a mapping of a file."""
    with open(f"/proc/{pid}/status") as f:
        return int([line.split()[1] for line in f if line.startswith("RssAnon")][0])


def limit_files(n):
    return (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))) if n else None


def metric(d, name):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{d.dir}/run/metrics.sock")
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    return [int(line.split()[-1]) for line in text.splitlines() if line.startswith(name)][0]


class Refused(Exception):
    pass


class Daemon:
    """tidegated with a configuration of its own, and a cgroup for its agent."""

    def __init__(self, config, workers=2, bpf="auto", env=None, journal="16MiB", extra="",
                 program=None, manager=None):
        ensure_users()
        self.dir = tempfile.mkdtemp(prefix="tidegate-e2e-")
        os.chmod(self.dir, 0o755)
        self.tag = uuid.uuid4().hex[:8]
        self.cgroup_name = f"/tidegate-e2e-{self.tag}"
        root = cgroup_root()
        self.cgroup = root + self.cgroup_name if root else None
        if self.cgroup:
            os.mkdir(self.cgroup)
        self.config_path = f"{self.dir}/tidegate.yaml"
        self.head = (f"daemon: {{ run_dir: {self.dir}/run, state_dir: {self.dir}/state, workers: "
                     f"{workers}, bpf: {bpf}, bpf_dir: /sys/fs/bpf/tidegate-{self.tag} }}\n"
                     f"recording: {{ dir: {self.dir}/recordings, journal: {journal}{extra} }}\n")
        with open(f"{self.dir}/catalog.password", "w") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write("catalog\n")
        self.write_config(config)
        self.manager = manager
        self.env = dict(os.environ, **(env or {}), **(manager.env if manager else {}))
        self.program = program or f"{BUILD}/tidegated"
        self.process = None
        self.log_path = f"{self.dir}/log"
        self.start()

    def write_config(self, config):
        with open(self.config_path, "w") as f:
            f.write(self.head + config.replace("$CGROUP", self.cgroup_name)
                    .replace("$DIR", self.dir))

    def start(self, limit=None):
        with open(self.log_path, "ab") as log:
            offset = log.tell()
            before, fds = (self.manager.argv(), self.manager.fds()) if self.manager else ([], [])
            self.process = subprocess.Popen(before + [self.program, "-c", self.config_path],
                                            stderr=log, stdin=subprocess.DEVNULL, env=self.env,
                                            preexec_fn=limit_files(limit), pass_fds=fds)
        try:
            wait_for("the daemon", lambda: self.ready(offset), 20)
        except AssertionError:
            raise AssertionError("the daemon did not start: " + self.log())
        self.steering = "steering on" in self.log()[offset:]
        wait_for("all workers", lambda: self.workers_up(), 10)

    def ready(self, offset):
        if self.process.poll() is not None:
            raise AssertionError("the daemon exited: " + self.log())
        return " is ready" in self.log()[offset:]

    def workers_up(self):
        return all(w["pid"] for w in self.ctl("status")["workers"])

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def ctl(self, op, timeout=15, **args):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout * SLOW)
            s.connect(f"{self.dir}/run/control.sock")
            body = json.dumps({"v": 1, "op": op, "args": args}).encode()
            s.sendall(struct.pack("<I", len(body)) + body)
            answer = self.receive(s)
        if not answer["ok"]:
            raise Refused(answer["error"]["message"])
        return answer["result"]

    @staticmethod
    def receive(s):
        def exactly(n):
            data = b""
            while len(data) < n:
                part = s.recv(n - len(data))
                if not part:
                    raise EOFError
                data += part
            return data
        (n,) = struct.unpack("<I", exactly(4))
        return json.loads(exactly(n))

    def approval(self, seconds=10):
        return wait_for("an approval", lambda: self.ctl("approval.list"), seconds)[0]

    def counters(self):
        return self.ctl("status")["counters"]

    def join(self):
        """For preexec_fn: the process becomes the agent."""
        path = f"{self.cgroup}/cgroup.procs"

        def enter():
            with open(path, "w") as f:
                f.write(str(os.getpid()))
        return enter if self.cgroup else None

    def popen(self, argv, **kw):
        return subprocess.Popen(argv, preexec_fn=self.join(), text=True, stdin=kw.pop(
            "stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)

    def run(self, argv, input=None, timeout=60, **kw):
        return subprocess.run(argv, preexec_fn=self.join(), text=True, input=input,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout * SLOW, **kw)

    def psql(self, port, *args, input=None, user="agent", db="shop", timeout=60):
        return self.run(["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", db,
                         *args], input=input, timeout=timeout).stdout

    def psql_later(self, port, *args, user="agent", db="shop"):
        return self.popen(["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", db,
                           *args])

    def recordings(self):
        return sorted(glob.glob(f"{self.dir}/recordings/*.tgrec.zst"))

    def record_text(self):
        """All recordings, decompressed."""
        out = b""
        for path in self.recordings():
            out += subprocess.run(["zstdcat", path], capture_output=True).stdout
        return out

    def children(self):
        out = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
                             capture_output=True, text=True).stdout
        return {m[2]: int(m[1]) for m in re.finditer(r"(\d+) .*--name (\w+ ?\d*) --log", out)}

    def processes(self, name):
        out = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
                             capture_output=True, text=True).stdout
        return [int(m[1]) for m in re.finditer(rf"(\d+) .*--name {name} --log", out)]

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def reports(self):
        """What sanitizers said, where the daemon is built with them."""
        if not os.path.exists(self.log_path):
            return None  # stopped before
        text = self.log()
        found = re.search(r"runtime error:|ERROR: \w+Sanitizer|used a system call", text)
        return text[max(0, found.start() - 200):found.start() + 6000] if found else None

    def not_the_same_again(self):
        """What the inspector does otherwise when it is fed from this daemon's recordings."""
        paths, total = [], 0
        for path in self.recordings():
            total += os.path.getsize(path)
            if total < 16 << 20:
                paths.append(path)
        if not paths:
            return None
        out = subprocess.run([f"{BUILD}/tidegate", "-j", "recording", "verify", "--rerun", *paths],
                             capture_output=True, text=True)
        try:
            verdicts = json.loads(out.stdout)
        except ValueError:
            return out.stdout + out.stderr
        self.reran = [v["rerun"] for v in verdicts if v.get("rerun", {}).get("ok")]
        bad = [(v["id"], v["rerun"]["why"]) for v in verdicts
               if v["ok"] and v["state"] == "finished" and not v["rerun"]["ok"]]
        return f"recordings do not explain themselves: {bad}" if bad else None

    def stop(self):
        self.stop_process()
        reports = self.reports() or self.not_the_same_again()
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not reports, reports

    def stop_process(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(f"/sys/fs/bpf/tidegate-{self.tag}", ignore_errors=True)
        if self.cgroup:
            with contextlib.suppress(OSError):
                with open(f"{self.cgroup}/cgroup.procs") as f:
                    for pid in f.read().split():
                        os.kill(int(pid), signal.SIGKILL)
            for _ in range(50):
                with contextlib.suppress(OSError):
                    os.rmdir(self.cgroup)
                    break
                time.sleep(0.02)


SHOP = """
CREATE ROLE agent LOGIN PASSWORD 'pw-of-agent';
CREATE ROLE tidegate_catalog LOGIN PASSWORD 'catalog';
CREATE DATABASE shop OWNER agent;
"""

SHOP_TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text, card text);
INSERT INTO customers VALUES
 (1, 'Ada Lovelace', 'ada@example.com', '123-45-6789', '4111 1111 1111 1111'),
 (2, 'Alan Turing', 'alan@example.org', '987-65-4321', '5500-0000-0000-0004'),
 (3, 'Grace Hopper', 'grace@example.net', '219-09-9999', '340000000000009');
CREATE TABLE notes (id serial PRIMARY KEY, body text);
"""


def make_shop(pg):
    pg.sql(SHOP)
    pg.sql(SHOP_TABLES, db="shop", user="agent")


def make_shop_as_owner(pg):
    """The same on a server that lets only its superuser in without a password."""
    pg.sql(SHOP)
    pg.sql("SET ROLE agent;\n" + SHOP_TABLES, db="shop")


def policy(port, access="none", commands=None, mask=None, target="", extra_policy="", name="shop"):
    """The configuration that most tests start from."""
    commands = commands or ["{ effect: any, do: allow }"]
    lines = ["agents:", "  bot: { cgroup: $CGROUP }", "targets:", f"  {name}:",
             f'    address: "127.0.0.1:{port}"', "    protocol: postgresql"]
    lines += [f"    {line}" for line in target.splitlines() if line]
    lines += ["policy:", "  - agents: [bot]", f"    targets: [{name}]",
              f"    access: {{ approval: {access} }}" if "{" not in access else f"    access: {access}",
              "    commands:"] + [f"      - {c}" for c in commands]
    if mask:
        lines += ["    mask:"] + [f"      - {m}" for m in mask]
    return "\n".join(lines) + "\n" + extra_policy
