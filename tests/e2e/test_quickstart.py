# SPDX-License-Identifier: MIT
"""What scripts/quickstart.sh shows, how long it takes, and that nothing of it stays behind."""
import contextlib
import ctypes
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import ROOT, SLOW, USERS, cgroup_root, wait_for

# Each step, and what it has to have said by then.
STEPS = [
    ("A throw-away PostgreSQL", r"listening on 127\.0\.0\.1:\d+"),
    ("tidegated with the built-in approver", r"   \S"),
    ("1. The connection is held", r"access  demo +shop-db .*\n   psql waits\. \$ tidegate approval "
     r"approve (\w+)\n(.*\n)*.*1 \| Ada Lovelace"),
    ("2. A read with masked columns", r"Ada Lovelace +\| \*\*\* +\| \*\*\*-\*\*-6789 \| \*\*\* +\| "
     r"\*\*\*-\*\*-6789 \| \*\*\*"),
    ("3. DDL is refused", r"UPDATE 1\n.*ERROR:  ddl on customers is denied by policy\[0\]\.commands"
     r"\[3\] \(tidegate\.yaml:\d+\)\n(.*\n)*.*Ada King\n(.*\n)*.*COMMIT"),
    ("4. A statement waits for approval", r"statement  demo .* ALTER TABLE customers ADD COLUMN "
     r"note text\n.*approve (\w+)\n.*NOTICE:  waiting for approval \1: .*\n.*ALTER TABLE"),
    ("5. Access ends by itself", r"FATAL:  the granted time is over"),
    ("6. What happened is on record", r"grant_expired\n.*recording replay --no-delay ([0-9a-f-]+)\n"
     r"(.*\n)*.* > DROP TABLE customers;\n.*= deny  effects ddl  objects customers  rule "
     r"policy\[0\](.*\n)*.*\1  ok  .*finished"),
]


class Quickstart:
    """The script in a folder of its own for temporary files, with all that it starts below us."""

    def __init__(self):
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
        self.tmp = tempfile.mkdtemp(prefix="tgqs-")
        os.chmod(self.tmp, 0o755)
        self.process = None

    def start(self, *args, before=()):
        self.output = f"{self.tmp}.out"
        with open(self.output, "w") as f:
            self.process = subprocess.Popen(
                [*before, f"{ROOT}/scripts/quickstart.sh", "--no-install", *args], stdout=f,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=dict(os.environ, TMPDIR=self.tmp))

    def text(self):
        with open(self.output, errors="replace") as f:
            return f.read()

    def run(self, *args, before=()):
        self.start(*args, before=before)
        status = self.process.wait(180 * SLOW)
        assert status == 0, self.text()
        return self.text()

    def pins(self):
        return f"/sys/fs/bpf/tidegate-quickstart-{self.process.pid}"

    def cgroup(self):
        return f"{cgroup_root()}/tidegate-demo-{self.process.pid}"

    def left(self):
        """Processes, folders, pins and cgroups that are there."""
        with_us = []
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):  # those that it left to us, and have ended
                pass
            with_us = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
                                     text=True, capture_output=True).stdout.splitlines()
            with_us = [line for line in with_us if " ps -o " not in line]
        except ChildProcessError:
            pass
        return with_us + glob.glob(f"{self.tmp}/*") + \
            [path for path in (self.pins(), self.cgroup()) if os.path.exists(path)]

    def stop(self):
        """After a test that failed, nothing stays either."""
        self.process.kill()
        self.process.wait()
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for line in self.left():
                if line[0] != "/":
                    os.kill(int(line.split()[0]), sig)
            with contextlib.suppress(AssertionError):
                wait_for("the end", lambda: not [x for x in self.left() if x[0] != "/"], 10)
        for path in (self.tmp, self.pins()):
            shutil.rmtree(path, ignore_errors=True)
        if os.path.isdir(self.cgroup()):
            os.rmdir(self.cgroup())
        os.unlink(self.output)


@pytest.fixture
def quickstart():
    q = Quickstart()
    yield q
    if q.process:
        q.stop()


def users():
    return {name for name in USERS if name in [u.pw_name for u in pwd.getpwall()]}


def check_steps(out):
    parts = re.split(r"^== ", out, flags=re.M)[1:]
    assert len(parts) == len(STEPS) + 1, out
    for part, (title, shows) in zip(parts, STEPS):
        assert part.startswith(title), (title, out)
        assert re.search(shows, part), (title, shows, part)
    # No secret of the table gets by, wherever it is printed.
    assert not re.search(r"123-45|987-65|219-09|4111|ada@|alan@", out), out
    took = re.match(r"Done in (\d+) s\n", parts[-1])
    assert took and int(took[1]) < 60 * SLOW, out
    return parts


def nothing_left(q):
    wait_for("it to be gone: " + ", ".join(q.left()), lambda: not q.left(), 5)


def test_steered(quickstart):
    before = users()
    out = quickstart.run()
    parts = check_steps(out)
    if "the kernel steers" not in parts[1]:
        pytest.skip("no BPF on this host: " + parts[1].strip())
    port = re.search(r"listening on 127\.0\.0\.1:(\d+)", parts[0])[1]
    # The stock client is told the database's own address.
    assert f"sends to 127.0.0.1:{port}\n" in parts[1] and f"psql -h 127.0.0.1 -p {port} " in parts[2]
    assert f"destination 127.0.0.1:{port}" in parts[-2]
    assert "--keep` leaves it running" in parts[-1]
    nothing_left(quickstart)
    assert users() == before


@pytest.mark.parametrize("args, before, why", [
    (["--no-bpf"], [], r"gateway mode: .*(bpf: off|--no-bpf)"),
    # What a host says that lets root use no BPF.
    ([], ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"],
     r"gateway mode: .*CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON .*are needed"),
], ids=["asked for", "refused"])
def test_gateway(quickstart, args, before, why):
    parts = check_steps(quickstart.run(*args, before=before))
    assert re.search(why, parts[1]), parts[1]
    gate = re.search(r"psql is pointed at 127\.0\.0\.1:(\d+) instead", parts[1])[1]
    assert f"psql -h 127.0.0.1 -p {gate} " in parts[2]
    nothing_left(quickstart)


def test_kept(quickstart):
    """With --keep it can be gone on with, as it says, and ended, as it says."""
    parts = check_steps(quickstart.run("--keep"))
    tries, ends = parts[-1].split("   To end it:\n")
    assert "Everything still runs" in tries

    def shell(line):
        return subprocess.run(["sh", "-c", f"{line} 2>&1"], cwd=ROOT, text=True,
                              capture_output=True, timeout=60 * SLOW)
    lines = [line.strip() for line in tries.splitlines() if line.startswith("     ")]
    export, ask, *_ = lines
    assert export.startswith("export T=") and len(lines) == 5
    for line in lines[1:4]:
        done = shell(f"{export}; {line}")
        assert done.returncode == 0, (line, done.stdout)
        if "explain" in line:
            assert "DELETE FROM customers" in line and "allow" in done.stdout, done.stdout
        elif "status" in line:
            assert re.match(r"tidegated .*\n\nbpf  ", done.stdout), done.stdout
    # The last is for a terminal: here it has a statement, and is approved beside it.
    agent = subprocess.Popen(["sh", "-c", lines[4].split("   #")[0].strip()], cwd=ROOT, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    agent.stdin.write("SELECT ssn FROM customers ORDER BY id LIMIT 1;\n")
    agent.stdin.close()
    waits = wait_for("its question", lambda: re.search(
        r"^(\w{8})  access", shell(f"{export}; $T approval list").stdout, re.M), 20, 0.2)
    assert shell(f"{export}; $T approval approve {waits[1]}").returncode == 0
    assert "***-**-6789" in agent.stdout.read()
    assert agent.wait(20) == 0
    for line in ends.splitlines():
        assert line.startswith("     ")
        wait_for(f"`{line.strip()}` to do it", lambda: shell(line).returncode == 0, 10, 0.3)
    nothing_left(quickstart)


def test_interrupted(quickstart):
    """Ctrl-C in the middle of it, while a connection is held."""
    quickstart.start()
    wait_for("the first step", lambda: "psql waits" in quickstart.text() or
             "1. The connection" in quickstart.text(), 60)
    quickstart.process.send_signal(signal.SIGTERM)
    assert quickstart.process.wait(30 * SLOW) == 130, quickstart.text()
    nothing_left(quickstart)


def test_usage():
    done = subprocess.run([f"{ROOT}/scripts/quickstart.sh", "--nonsense"], text=True,
                          capture_output=True)
    assert done.returncode == 2 and "--no-install" in done.stdout and "--keep" in done.stdout
