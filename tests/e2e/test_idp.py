# SPDX-License-Identifier: MIT
"""Access that the identity provider grants, through keyd and authd of a real daemon."""
import os
import subprocess
import time

import harness
import pytest
from harness import policy, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def idp():
    done = subprocess.run([f"{HERE}/idp/install.sh"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("npm cannot install the test identity provider")
    from idp_server import Idp
    server = Idp(done.stdout.strip())
    yield server
    server.close()


def config(pg, idp, scope="db:orders:read", secret="basic-secret", max_="15m", timeout="2s"):
    return (f"idp:\n  issuer: {idp.issuer}\n  allow_http: true\n  timeout: {timeout}\n"
            "  audience: https://db.example/es256\n  resource: https://db.example/es256\n"
            "  client: { id: basic, auth: client_secret_basic, secret_file: $DIR/secret }\n" +
            policy(pg.port, access=f"{{ approval: idp, scope: '{scope}', max: {max_} }}"))


@pytest.fixture
def guarded(daemon, pg, idp, monkeypatch):
    def make(secret="basic-secret", **kw):
        original = harness.Daemon.write_config

        def write(self, text):
            with open(f"{self.dir}/secret", "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write(secret)
            original(self, text)
        monkeypatch.setattr(harness.Daemon, "write_config", write)
        return daemon(config(pg, idp, **kw), workers=1)
    return make


def test_granted(guarded, pg, idp):
    d = guarded()
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 11") == "11\n"
    g = d.ctl("grant.list")
    assert len(g) == 1 and g[0]["via"] == "idp" and g[0]["scope"] == "db:orders:read"
    before = idp.stats()
    assert d.psql(pg.port, "-A", "-t", "-c", "SELECT 12") == "12\n"
    assert idp.stats() == before, "a cached grant asks nobody"
    wait_for("the record", lambda: b'"by":"idp: ' in d.record_text())
    assert b"basic-secret" not in d.record_text() and "basic-secret" not in d.log()


def test_scope_not_granted(guarded, pg):
    d = guarded(scope="db:payroll:read")
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "access denied" in out and "identity provider" in out
    assert d.ctl("grant.list") == []


def test_wrong_secret(guarded, pg):
    d = guarded(secret="wrong")
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "access denied" in out
    assert "wrong" not in d.log().replace("wrong secret", "")


def test_grant_ends_with_max(guarded, pg):
    d = guarded(max_="2s")
    began = time.monotonic()
    out = d.psql(pg.port, "-c", "SELECT pg_sleep(20)")
    assert "granted time is over" in out and time.monotonic() - began < 4 * harness.SLOW


def test_provider_errors_are_denials(guarded, pg, idp):
    d = guarded(timeout="1s")
    idp.faults({"path": "/token", "status": 503, "count": 1})
    assert "access denied" in d.psql(pg.port, "-c", "SELECT 1")
    wait_for("recovery", lambda: "1\n" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 1"), 20, 0.5)


def test_slow_provider_is_a_denial(guarded, pg, idp):
    d = guarded(timeout="1s")
    idp.faults({"path": "/token", "delay_ms": 4000, "count": 1})
    began = time.monotonic()
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "did not answer in time" in out and time.monotonic() - began < 4 * harness.SLOW


def test_authd_killed(guarded, pg):
    d = guarded()
    old = d.children()["authd"]
    os.kill(old, 9)
    wait_for("authd", lambda: d.children().get("authd", old) != old, 5)
    wait_for("service", lambda: "9\n" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 9"), 10, 0.3)


def test_status_tells_about_the_provider(guarded, pg, idp):
    d = guarded()
    d.psql(pg.port, "-c", "SELECT 1")
    wait_for("the state", lambda: len(d.ctl("status")["idp"]) > 1)
    assert d.ctl("status")["idp"]["issuer"] == idp.issuer


def test_many_connections_ask_once(guarded, pg, idp):
    d = guarded()
    before = idp.stats().get("POST /token", idp.stats())
    procs = [d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 4") for _ in range(20)]
    for p in procs:
        assert p.communicate(timeout=20 * harness.SLOW)[0] == "4\n"
    assert len(d.ctl("grant.list")) == 1
    assert before is not None
