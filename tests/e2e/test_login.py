# SPDX-License-Identifier: MIT
"""Servers that ask for passwords: the agent's own login passes through, keyd answers for the catalog."""
import os
import signal
import time

import harness
import pytest
from harness import policy, wait_for

MASKS = ["{ column: customers.ssn, as: last4 }"]
CATALOG = "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }"


@pytest.fixture(scope="module", params=["scram-sha-256", "md5", "password"])
def strict(request):
    server = harness.Postgres(auth=request.param, options=[
        "password_encryption=" + ("md5" if request.param == "md5" else "scram-sha-256")])
    harness.make_shop_as_owner(server)
    yield server
    server.stop()


def test_login_and_masks(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    d = daemon(policy(strict.port, mask=MASKS, target=CATALOG), workers=1)
    out = d.psql(strict.port, "-A", "-t", "-c", "SELECT ssn, name FROM customers WHERE id = 1")
    assert out == "***-**-6789|Ada Lovelace\n", out + d.log()
    wait_for("the record", lambda: b"Ada Lovelace" in d.record_text())
    # A password in clear text, or what proves it, is never recorded.
    assert b"pw-of-agent" not in d.record_text() and b",p=" not in d.record_text()


def test_wrong_password_is_the_servers_answer(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wrong")
    d = daemon(policy(strict.port), workers=1)
    assert "password authentication failed" in d.psql(strict.port, "-c", "SELECT 1")


def test_wrong_catalog_password_masks_everything(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    d = daemon(policy(strict.port, mask=MASKS, target=CATALOG), workers=1)
    with open(f"{d.dir}/catalog.password", "w") as f:
        f.write("wrong\n")
    d.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "configuration reloaded" in d.log())
    time.sleep(1)
    out = d.psql(strict.port, "-A", "-t", "-c", "SELECT ssn, name FROM customers WHERE id = 1")
    assert "123" not in out and "Ada" not in out
    assert "catalog of target shop" in d.log()
    assert d.counters()["mask_unresolved"] >= 1


def test_observe_decides_but_lets_pass(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    config = policy(strict.port, access="builtin", commands=["{ effect: ddl, do: deny }"])
    d = daemon(config.replace("    commands:", "    observe: true\n    commands:"), workers=1)
    out = d.psql(strict.port, "-c", "CREATE TABLE observed (a int)", "-c", "DROP TABLE observed")
    assert "CREATE TABLE" in out and "DROP TABLE" in out
    wait_for("the record", lambda: b'"decision":"would-deny"' in d.record_text())


def test_target_in_observe_mode(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    d = daemon(policy(strict.port, commands=["{ effect: ddl, do: deny }"]), workers=1)
    assert "denied" in d.psql(strict.port, "-c", "SELECT 1")
    d.ctl("target.set", name="shop", mode="observe")
    assert "(1 row)" in d.psql(strict.port, "-c", "SELECT 1")


def test_sighup_with_a_bad_file_changes_nothing(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    d = daemon(policy(strict.port), workers=1)
    d.write_config(policy(strict.port).replace("protocol:", "protcol:"))
    d.process.send_signal(signal.SIGHUP)
    wait_for("the message", lambda: "did you mean `protocol`" in d.log())
    assert "tidegate.yaml:" in d.log() and "old one stays in force" in d.log()
    assert "(1 row)" in d.psql(strict.port, "-c", "SELECT 1")


def test_keyd_refuses_a_secret_that_others_can_read(daemon, strict, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pw-of-agent")
    d = daemon(policy(strict.port, mask=MASKS, target=CATALOG), workers=1)
    os.chmod(f"{d.dir}/catalog.password", 0o644)
    d.kill()
    d.start()
    out = d.psql(strict.port, "-A", "-t", "-c", "SELECT ssn FROM customers WHERE id = 1")
    assert "6789" not in out
    assert "catalog.password" in d.log()
