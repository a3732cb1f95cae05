# SPDX-License-Identifier: MIT
"""The main job with the stock psql: held, masked, refused, approved, ended, recorded."""
import os
import time

import pytest
import harness
from harness import policy, wait_for

MASKS = ["{ column: customers.ssn, as: last4 }", "{ detect: [card, email], as: redact }"]
CATALOG = "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }"


def test_plain_read(daemon, pg):
    d = daemon(policy(pg.port))
    out = d.psql(pg.port, "-A", "-t", "-c", "SELECT id, name FROM customers ORDER BY id")
    assert out == "1|Ada Lovelace\n2|Alan Turing\n3|Grace Hopper\n"
    assert d.ctl("status")["kernel"]["steered"] == 1


@pytest.mark.parametrize("host", ["::1", "::ffff:127.0.0.1"])
def test_ipv6_and_mapped(daemon, pg, host):
    d = daemon(policy(pg.port).replace(
        f'address: "127.0.0.1:{pg.port}"',
        f'address: ["127.0.0.1:{pg.port}", "[::1]:{pg.port}"]'))
    out = d.run(["psql", "-X", "-A", "-t", "-h", host, "-p", str(pg.port), "-U", "agent", "-d",
                 "shop", "-c", "SELECT 6"]).stdout
    assert out == "6\n"
    assert d.ctl("status")["kernel"]["steered"] == 1


def test_connection_is_held_until_approved(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-A", "-t", "-c", "SELECT 42")
    a = d.approval()
    assert a["kind"] == "access" and a["agent"] == "bot" and a["user"] == "agent"
    time.sleep(0.3)
    assert psql.poll() is None
    d.ctl("approval.approve", id=a["id"])
    assert psql.communicate(timeout=10 * harness.SLOW)[0] == "42\n"


def test_connection_is_denied(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT 42")
    d.ctl("approval.deny", id=d.approval()["id"], reason="not today")
    out = psql.communicate(timeout=10 * harness.SLOW)[0]
    assert psql.returncode == 2
    assert "approver said no" in out and "not today" in out


def test_grant_expiry_ends_the_session(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(30)")
    a = d.approval()
    began = time.monotonic()
    d.ctl("approval.approve", id=a["id"], for_ms=1000)
    out = psql.communicate(timeout=10 * harness.SLOW)[0]
    assert 0.9 < time.monotonic() - began < 1.6 * harness.SLOW
    assert "granted time is over" in out
    wait_for("the server to stop", lambda: pg.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND "
        "usename = 'agent'").strip() == "0")


def test_revoke_ends_within_100_ms(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(30)")
    d.ctl("approval.approve", id=d.approval()["id"])
    wait_for("the statement", lambda: pg.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'").strip() == "1")
    began = time.monotonic()
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"], reason="incident")
    out = psql.communicate(timeout=10 * harness.SLOW)[0]
    assert time.monotonic() - began < 0.3 * harness.SLOW  # with psql's own exit
    assert "revoked" in out and "incident" in out


def test_denied_ddl_leaves_the_transaction_usable(daemon, pg):
    d = daemon(policy(pg.port, commands=["{ effect: [read, write, transaction], do: allow }",
                                         "{ effect: any, do: deny }"]))
    out = d.psql(pg.port, "-A", "-t", input="BEGIN;\nINSERT INTO notes (body) VALUES ('kept');\n"
                 "DROP TABLE customers;\nSELECT count(*) FROM customers;\nCOMMIT;\n"
                 "SELECT body FROM notes WHERE body = 'kept';\n")
    assert "ddl on customers is denied by policy[0].commands[1]" in out
    assert "DETAIL:  Tidegate request" in out and "HINT:" in out
    assert out.split("HINT")[1].splitlines()[1:] == ["3", "COMMIT", "kept"]


def test_statement_waits_for_approval(daemon, pg):
    d = daemon(policy(pg.port, commands=["{ effect: ddl, do: approve }",
                                         "{ effect: any, do: allow }"]))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE approved_one (a int)")
    a = d.approval()
    assert a["kind"] == "statement" and a["text"].startswith("CREATE TABLE approved_one")
    assert len(a["digest"]) == 64 and not a["in_transaction"]
    assert pg.sql("SELECT to_regclass('approved_one') IS NULL", db="shop").strip() == "t"
    d.ctl("approval.approve", id=a["id"])
    assert "CREATE TABLE" in psql.communicate(timeout=10 * harness.SLOW)[0]


def test_ctrl_c_cancels_a_held_statement(daemon, pg):
    d = daemon(policy(pg.port, commands=["{ effect: ddl, do: approve }",
                                         "{ effect: any, do: allow }"]))
    psql = d.psql_later(pg.port, "-c", "CREATE TABLE never (a int)")
    d.approval()
    psql.send_signal(2)
    out = psql.communicate(timeout=10 * harness.SLOW)[0]
    assert "canceling statement due to user request" in out
    assert d.ctl("approval.list") == []


def test_ctrl_c_cancels_a_running_statement(daemon, pg):
    d = daemon(policy(pg.port))
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(20), 'cancelme'")
    wait_for("the statement", lambda: pg.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%cancelme%' AND "
        "usename='agent'").strip() == "1")
    psql.send_signal(2)
    assert "canceling statement due to user request" in psql.communicate(timeout=10 * harness.SLOW)[0]


def test_held_in_transaction_has_a_limit(daemon, pg):
    d = daemon(policy(pg.port, commands=["{ effect: ddl, do: approve, hold_in_transaction: 1s }",
                                         "{ effect: any, do: allow }"]))
    out = d.psql(pg.port, "-A", "-t", input="BEGIN;\nCREATE TABLE late (a int);\nSELECT 7;\nROLLBACK;\n")
    assert "waited too long for approval inside an open transaction" in out
    assert "\n7\n" in out


def test_client_that_leaves_while_held_is_noticed(daemon, pg):
    d = daemon(policy(pg.port, access="builtin"))
    psql = d.psql_later(pg.port, "-c", "SELECT 1")
    d.approval()
    psql.kill()
    wait_for("the approval to go", lambda: d.ctl("approval.list") == [])
    wait_for("the session to go", lambda: d.ctl("session.list") == [])


def test_masks(daemon, pg):
    d = daemon(policy(pg.port, mask=MASKS, target=CATALOG))
    out = d.psql(pg.port, "-A", "-t", "-c",
                 "SELECT ssn, email, card, ssn AS harmless, 'x' || ssn, upper(ssn), id "
                 "FROM customers ORDER BY id")
    assert out.splitlines()[0].startswith("***-**-6789|***|***|***-**-6789|***|***|1")
    for secret in ("123-45", "987-65", "4111", "ada@"):
        assert secret not in out, out
    assert out.splitlines()[2].endswith("|3")


def test_copy_out_is_masked(daemon, pg):
    d = daemon(policy(pg.port, mask=MASKS, target=CATALOG))
    for form in ("", " (FORMAT csv)", " (FORMAT csv, HEADER)"):
        out = d.psql(pg.port, "-c", f"COPY customers TO STDOUT{form}")
        assert "6789" in out and "Ada" in out, out
        for secret in ("123-45", "4111", "ada@"):
            assert secret not in out, out


def test_unknown_statement_is_denied(daemon, pg):
    d = daemon(policy(pg.port, commands=["{ effect: [read, session], do: allow }"]))
    out = d.psql(pg.port, "-A", "-t", input="SELEC 1;\nDO $$ BEGIN END $$;\nSELECT 5;\n")
    assert "not understood" in out and "denied" in out and out.endswith("5\n")


def test_recording_has_both_directions_and_no_password(daemon, pg):
    d = daemon(policy(pg.port))
    d.psql(pg.port, "-c", "ALTER ROLE agent PASSWORD 'hunter2secret'")
    d.psql(pg.port, "-c", "SELECT 'needle-in-result'")
    wait_for("the sessions to end", lambda: d.ctl("session.list") == [])
    wait_for("two recordings", lambda: b"needle-in-result" in d.record_text())
    text = d.record_text()
    assert b"hunter2secret" not in text
    assert b"ALTER ROLE agent PASSWORD" in text
    assert b'"decision":"allow"' in text


def test_agent_without_a_policy_entry(daemon, pg):
    d = daemon(policy(pg.port).replace("agents: [bot]", "agents: [other]")
               .replace("  bot: {", "  other: { uid: [54321] }\n  bot: {"))
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "no policy entry allows this agent" in out


def test_daemon_down_is_closed(daemon, pg):
    d = daemon(policy(pg.port))
    d.kill()
    out = d.psql(pg.port, "-c", "SELECT 1")
    assert "Connection refused" in out


def test_unsteered_connection_is_reset(daemon, pg):
    import socket
    d = daemon(policy(pg.port))
    out = harness.subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout
    # The one for names is opened behind it.
    line = min((l for l in out.splitlines() if f"pid={d.process.pid}," in l and "127.0.0.1" in l),
               key=lambda l: int(l.split("fd=")[1].split(")")[0].split(",")[0]))
    port = int(line.split()[3].rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(5 * harness.SLOW)
        with pytest.raises(ConnectionResetError):
            if s.recv(1) == b"":
                raise AssertionError("closed without a reset")
    wait_for("the counter", lambda: d.counters()["not_steered"] == 1)


def test_worker_killed_is_back(daemon, pg):
    d = daemon(policy(pg.port), workers=1)
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(20)")
    wait_for("the session", lambda: d.ctl("session.list"))
    os.kill(d.children()["worker 0"], 9)
    assert psql.wait(5 * harness.SLOW) != 0
    began = time.monotonic()
    wait_for("a worker", lambda: "1\n" in d.psql(pg.port, "-A", "-t", "-c", "SELECT 1"), 5)
    assert time.monotonic() - began < 2 * harness.SLOW
    assert d.ctl("status")["workers"][0]["restarts"] == 1


def test_reload_replaces_the_policy(daemon, pg):
    d = daemon(policy(pg.port))
    d.write_config(policy(pg.port, commands=["{ effect: transaction, do: allow }"]))
    assert d.ctl("policy.reload")["changed"]
    assert "denied" in d.psql(pg.port, "-c", "SELECT 1")
    d.write_config("agents: nonsense\n")
    with pytest.raises(harness.Refused) as e:
        d.ctl("policy.reload")
    assert "tidegate.yaml:3" in str(e.value)
    assert "denied" in d.psql(pg.port, "-c", "SELECT 1")


def test_reload_that_asks_for_approval_ends_free_sessions(daemon, pg):
    d = daemon(policy(pg.port))
    psql = d.psql_later(pg.port, "-c", "SELECT pg_sleep(20)")
    wait_for("the session", lambda: any(s["state"] == "run" for s in d.ctl("session.list")))
    d.write_config(policy(pg.port, access="builtin"))
    d.ctl("policy.reload")
    assert "policy no longer allows" in psql.communicate(timeout=5 * harness.SLOW)[0]


def test_gateway_mode(daemon, pg):
    gate = harness.free_port()
    d = daemon(policy(pg.port, target=f'listen: "127.0.0.1:{gate}"\nlisten_by_owner: true'),
               need_steering=False, bpf="off")
    assert d.psql(gate, "-A", "-t", "-c", "SELECT 3") == "3\n"
    outside = harness.subprocess.run(["psql", "-X", "-h", "127.0.0.1", "-p", str(gate), "-U",
                                      "agent", "-d", "shop", "-c", "SELECT 1"],
                                     capture_output=True, text=True)
    assert outside.returncode != 0
