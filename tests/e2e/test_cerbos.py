# SPDX-License-Identifier: MIT
"""`by: authzen` with a real decision point: Cerbos, over its AuthZEN interface."""
import os
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import harness
import pytest
from harness import policy, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = "node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
CONFIG = """server:
  httpListenAddr: "127.0.0.1:{http}"
  grpcListenAddr: "127.0.0.1:{grpc}"
{tls}telemetry: {{ disabled: true }}
storage:
  driver: disk
  disk: {{ directory: {dir}/policies, watchForChanges: true }}
"""


class Cerbos:
    def __init__(self, installed, tls=False):
        self.binary = os.path.join(installed, BINARY)
        os.chmod(self.binary, os.stat(self.binary).st_mode | stat.S_IXUSR)
        self.dir = tempfile.mkdtemp(prefix="tidegate-cerbos-")
        os.chmod(self.dir, 0o755)
        shutil.copytree(f"{HERE}/pdp/policies", f"{self.dir}/policies")
        self.http, self.grpc, self.proc = harness.free_port(), harness.free_port(), None
        if tls:
            self.make_certificate()
        lines = f"  tls: {{ cert: {self.dir}/crt.pem, key: {self.dir}/key.pem }}\n" if tls else ""
        with open(f"{self.dir}/cerbos.yaml", "w", encoding="utf-8") as f:
            f.write(CONFIG.format(http=self.http, grpc=self.grpc, dir=self.dir, tls=lines))
        self.tls = tls
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.http}/access/v1/evaluation"
        self.start()

    def make_certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "3", "-subj", "/CN=pdp",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{self.dir}/key.pem",
                        "-out", f"{self.dir}/crt.pem"], check=True, stderr=subprocess.DEVNULL)

    def up(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(f"http://127.0.0.1:{self.http}/_cerbos/health", timeout=2)
        except urllib.error.HTTPError:
            return self.tls  # it wants TLS: so it listens
        except OSError:
            return False
        return True

    def start(self):
        with open(f"{self.dir}/cerbos.log", "ab") as log:
            self.proc = subprocess.Popen([self.binary, "server", f"--config={self.dir}/cerbos.yaml"],
                                         stdout=log, stderr=log, cwd=self.dir)
        wait_for("Cerbos", lambda: self.up() or self.proc.poll() is not None, 30)
        assert self.proc.poll() is None, open(f"{self.dir}/cerbos.log", encoding="utf-8").read()

    def stop(self):
        self.proc.terminate()
        self.proc.wait(timeout=30)

    def close(self):
        self.stop()
        shutil.rmtree(self.dir)


@pytest.fixture(scope="module")
def installed():
    done = subprocess.run([f"{HERE}/idp/install.sh", f"{HERE}/pdp"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("npm cannot install Cerbos")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cerbos(installed):
    server = Cerbos(installed)
    yield server
    server.close()


RULES = ["{ effect: [ddl, write], do: approve, approval: pdp }", "{ effect: any, do: allow }"]
CREATE = "CREATE TABLE cerbos_{} (a int)"


def way(url, more=""):
    return f"approvals:\n  pdp: {{ by: authzen, url: '{url}', timeout: 2s{more} }}\n"


def decision_point(d):
    return d.ctl("status")["approvals"][0]


def test_yes_and_no(daemon, pg, cerbos):
    """Without any identity provider; who asks and for what decides, statement by statement."""
    d = daemon(way(cerbos.url) + policy(pg.port, access="pdp", commands=RULES), workers=1)
    assert "CREATE TABLE" in d.psql(pg.port, "-c", CREATE.format("yes"))
    g = d.ctl("grant.list")
    assert len(g) == 1 and g[0]["via"] == "pdp" and g[0]["by"] == "idp: decision point pdp", g
    # The agent has no role `dba`: its type is the role.
    out = d.psql(pg.port, "-c", "INSERT INTO cerbos_yes VALUES (1)")
    assert "decision point refused" in out, out
    # Another database of the same target: connecting is not refused, the statement is.
    out = d.psql(pg.port, "-c", CREATE.format("elsewhere"), db="postgres")
    assert "decision point refused" in out, out
    s = wait_for("the decision point in status", lambda: [
        x for x in d.ctl("status")["approvals"] if x.get("asked", 0) >= 5])[0]
    assert s["name"] == "pdp" and s["by"] == "authzen" and s["url"] == cerbos.url, s
    assert s["ok"] is True and s["state"] == "up", s
    assert (s["allowed"], s["denied"], s["failed"]) == (3, 2, 0), s
    assert d.ctl("status")["idp"] is None


def test_unknown_target_and_agent(daemon, pg, cerbos):
    d = daemon(way(cerbos.url) + policy(pg.port, access="pdp", name="warehouse"), workers=1)
    assert "decision point refused" in d.psql(pg.port, "-c", "SELECT 1")


def test_unknown_resource_type(daemon, pg, cerbos):
    """What no policy speaks of is refused; a policy that comes in counts for the next question."""
    d = daemon(way(cerbos.url) + policy(pg.port, access="none", commands=RULES), workers=1)
    there, away = f"{cerbos.dir}/policies/target.yaml", f"{cerbos.dir}/target.away"
    os.rename(there, away)

    def says(words, name):
        return words in d.psql(pg.port, "-c", CREATE.format(name))
    try:
        wait_for("no policy", lambda: says("decision point refused", f"gone_{time.time_ns()}"), 20, 0.3)
    finally:
        os.rename(away, there)
    wait_for("the policy", lambda: says("CREATE TABLE", f"back_{time.time_ns()}"), 20, 0.3)


def test_stopped_and_started_again(daemon, pg, cerbos):
    d = daemon(way(cerbos.url) + policy(pg.port, commands=RULES), workers=1)
    cerbos.stop()
    try:
        out = d.psql(pg.port, "-c", CREATE.format("down"))
        assert "usable answer" in out, out
        s = wait_for("status to know", lambda: [
            x for x in d.ctl("status")["approvals"] if x.get("ok") is False])[0]
        assert s["state"] == "down" and "decision point" in s["detail"], s
        # Nothing else waits for it.
        assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 7") == "7\n"
    finally:
        cerbos.start()
    assert "CREATE TABLE" in d.psql(pg.port, "-c", CREATE.format("up_again"))
    wait_for("status to know", lambda: decision_point(d).get("ok") is True)


def test_metadata(daemon, pg, cerbos):
    """Where it is asked is told by itself; what it calls itself has to be what is configured."""
    point = cerbos.url.removesuffix("/access/v1/evaluation")
    text = way(cerbos.url).replace("url: ", "decision_point: ")

    def with_point(at):
        return text.replace(cerbos.url, at) + policy(pg.port, commands=RULES)
    cerbos.stop()
    try:
        d = daemon(with_point(point), workers=1)
        assert "usable answer" in d.psql(pg.port, "-c", CREATE.format("not_told"))
        s = wait_for("status to know", lambda: [
            x for x in d.ctl("status")["approvals"] if x.get("ok") is False])[0]
        assert "metadata" in s["detail"] and "url" not in s, s
    finally:
        cerbos.start()
    assert "CREATE TABLE" in d.psql(pg.port, "-c", CREATE.format("told"))
    s = wait_for("status to know", lambda: [x for x in d.ctl("status")["approvals"] if x.get("ok")])[0]
    assert (s["decision_point"], s["url"]) == (point, cerbos.url), s
    d.stop()
    d = daemon(with_point(point + "/other"), workers=1)
    assert "usable answer" in d.psql(pg.port, "-c", CREATE.format("other"))
    s = wait_for("status to know", lambda: [
        x for x in d.ctl("status")["approvals"] if x.get("ok") is False])[0]
    assert "metadata" in s["detail"], s


def test_tls(daemon, pg, installed):
    server = Cerbos(installed, tls=True)
    try:
        d = daemon(way(server.url, f", ca_file: {server.dir}/crt.pem") +
                   policy(pg.port, commands=RULES), workers=1)
        assert "CREATE TABLE" in d.psql(pg.port, "-c", CREATE.format("tls"))
        # Another authority, and a name that the certificate does not have.
        for n, (url, more) in enumerate((
                (server.url, ""),
                (server.url.replace("127.0.0.1", "localhost"), f", ca_file: {server.dir}/crt.pem"))):
            d = daemon(way(url, more) + policy(pg.port, commands=RULES), workers=1)
            out = d.psql(pg.port, "-c", CREATE.format(f"untrusted_{n}"))
            assert "usable answer" in out, out
            s = wait_for("status to know", lambda d=d: [
                x for x in d.ctl("status")["approvals"] if x.get("ok") is False])[0]
            assert "certificate" in s["detail"], s
            d.stop()
    finally:
        server.close()
