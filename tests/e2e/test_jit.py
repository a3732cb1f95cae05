# SPDX-License-Identifier: MIT
"""The provider's token for the grant is the password, on a server that verifies such tokens."""
import json
import os
import signal
import subprocess
import time

import harness
import psycopg2
import pytest
from harness import policy, wait_for
from jwt_ldap import JwtLdap
from test_creds import WHO, holders
from test_ways import IDP, idp, person  # noqa: F401: fixtures

WAYS = {"machine": "{ by: client_credentials, scope: db:orders:read }",
        "oncall": "{ by: ciba, scope: openid db.ddl, login_hint: alice, poll: 1s }",
        "both": "{ by: client_credentials, scope: db:orders:read, then: oncall }"}


@pytest.fixture(scope="module")
def ldap(idp):  # noqa: F811
    def keys():
        document = json.load(idp.fetch("/.well-known/openid-configuration"))
        return json.load(idp.fetch(document["jwks_uri"].removeprefix(idp.issuer)))
    server = JwtLdap(keys, idp.issuer, "https://db.example/es256")
    yield server
    server.close()


@pytest.fixture(scope="module")
def db(ldap):
    server = harness.Postgres(
        auth=f"ldap ldapserver=127.0.0.1 ldapport={ldap.port} ldapprefix=\"cn=\" ldapsuffix=\",dc=x\"",
        options=["log_statement=all", "log_connections=on"])
    harness.make_shop_as_owner(server)
    server.sql("CREATE ROLE orders_jit LOGIN; CREATE ROLE basic LOGIN;")
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO orders_jit, basic;", db="shop")
    yield server
    server.stop()


@pytest.fixture
def jit(daemon, idp, db, ldap, monkeypatch):  # noqa: F811
    """A daemon whose credential is the token of one of WAYS."""
    def make(credential, way="machine", target="", access=None, address=None):
        original = harness.Daemon.write_config

        def write(self, text):
            with open(f"{self.dir}/secret", "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write("basic-secret")
            original(self, text)
        monkeypatch.setattr(harness.Daemon, "write_config", write)
        ldap.seen.clear()
        ldap.accept = True
        text = (IDP.format(issuer=idp.issuer) + "approvals:\n" +
                "".join(f"  {k}: {v}\n" for k, v in WAYS.items()) +
                f"credentials:\n  jit: {credential}\n" +
                policy(db.port, access=access or f"{{ approval: {way} }}",
                       target="credential: jit\n" + target))
        if address:
            text = text.replace('address: "127.0.0.1:', f'address: "{address}:')
        return daemon(text, workers=1)
    return make


def who(d, db, host="127.0.0.1"):
    return d.run(["psql", "-X", "-A", "-t", "-h", host, "-p", str(db.port), "-U", "agent", "-d", "shop",
                  "-c", WHO], env=dict(os.environ, PGPASSWORD="nonsense")).stdout


def keepers(d, token):
    """Who has it. What libraries of authd have freed, AddressSanitizer keeps back as it was."""
    return [name for name in holders(d, token)
            if name != "authd" or "address" not in harness.SANITIZERS]


def leaks(d, token):
    """Where the token is written down."""
    places = {"recording": d.record_text(), "log": d.log().encode()}
    for name in os.listdir(f"{d.dir}/state"):
        with open(f"{d.dir}/state/{name}", "rb") as f:
            places[name] = f.read()
    return [name for name, text in places.items() if token.encode() in text]


def test_the_token_is_the_password(jit, db, ldap):
    d = jit("{ user: orders_jit, grant_token: machine }")
    assert who(d, db) == "orders_jit|orders_jit|shop\n", d.log()
    (name, token, good), = ldap.seen
    assert (name, good) == ("cn=orders_jit,dc=x", True)
    assert len(token) > 300
    # The same grant hands out the same token; no second one is issued.
    assert who(d, db) == "orders_jit|orders_jit|shop\n"
    assert [t for _, t, _ in ldap.seen] == [token, token]
    busy = d.psql_later(db.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the session", lambda: db.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)%' AND usename = "
        "'orders_jit'") == "1\n")
    assert keepers(d, token) == ["keyd"]
    # And at the end of the grant nobody has it.
    d.ctl("grant.revoke", id=d.ctl("grant.list")[0]["id"])
    busy.communicate(timeout=20)
    wait_for("it to be forgotten", lambda: keepers(d, token) == [])
    wait_for("the recordings", lambda: b'"login_as":"orders_jit"' in d.record_text())
    assert leaks(d, token) == []
    with open(f"{db.data}/log") as f:
        assert token not in f.read()


def test_whoever_the_token_is_about(jit, db):
    d = jit("{ grant_token: machine }")
    assert who(d, db) == "basic|basic|shop\n", d.log()  # the provider's name of the client


def test_a_person_gives_it(jit, db, ldap, idp):  # noqa: F811
    seen = len(idp.admin_call("/requests"))
    d = jit("{ user: orders_jit, grant_token: oncall }", way="oncall")
    waiting = d.psql_later(db.port, "-A", "-t", "-c", WHO)
    person(idp, seen)
    assert ldap.seen == []
    idp.decide("approve")
    out, _ = waiting.communicate(timeout=30)
    assert out == "orders_jit|orders_jit|shop\n", out + d.log()


def test_of_two_ways_the_one_that_is_named(jit, db, ldap, idp):  # noqa: F811
    seen = len(idp.admin_call("/requests"))
    d = jit("{ user: orders_jit, grant_token: both }", way="both")
    for verdict in "deny", "approve":
        waiting = d.psql_later(db.port, "-A", "-t", "-c", WHO)
        person(idp, seen)
        # The first way's token is there, and is of no use as long as the second has not said yes.
        assert ldap.seen == []
        idp.decide(verdict)
        seen += 1
        out, _ = waiting.communicate(timeout=30)
        assert out.startswith("orders_jit") == (verdict == "approve"), out + d.log()
    assert len(ldap.seen) == 1


def test_a_way_that_is_not_asked(jit, db, ldap):
    d = jit("{ user: orders_jit, grant_token: oncall }", way="machine")
    out = who(d, db)
    assert "no token of the identity provider" in out and "do not include" in out, out
    assert ldap.seen == []


def test_without_a_token(jit, db):
    d = jit("{ user: orders_jit, grant_token: machine }", access="none")
    assert "this access needed no approval" in who(d, db)
    assert d.counters()["credential_no_token"]
    d = jit("{ user: orders_jit, grant_token: machine }", access="builtin")
    d.ctl("grant.create", agent="bot", target="shop", for_ms=60000, reason="test")
    assert "given by an operator" in who(d, db)


def test_a_server_elsewhere_is_not_told(jit, db, ldap):
    address = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    address = [a for a in address if "." in a][:1]
    if not address:
        pytest.skip("this host has no address but loopback")
    db.sql(f"ALTER SYSTEM SET listen_addresses = '*'")
    with open(f"{db.data}/pg_hba.conf") as f:
        rules = f.read()
    with open(f"{db.data}/pg_hba.conf", "w") as f:
        f.write(rules + rules.splitlines()[2].replace("127.0.0.1/32", f"{address[0]}/32") + "\n")
    with open(f"{db.data}/postmaster.opts") as f:
        assert "listen_addresses=127.0.0.1" in f.read()
    relay = subprocess.Popen(["/usr/bin/python3", "-c", RELAY, address[0], str(db.port)],
                             stdout=subprocess.PIPE)
    try:
        relay.stdout.readline()
        d = jit("{ user: orders_jit, grant_token: machine }", address=address[0])
        out = who(d, db, host=address[0])
        assert "a kind of login that Tidegate's credential is not used for" in out, out
        assert ldap.seen == []
        harness.reload_with(d, "grant_token: machine", "grant_token: machine, clear_text: true")
        assert who(d, db, host=address[0]) == "orders_jit|orders_jit|shop\n", d.log()
    finally:
        relay.kill()
        relay.wait()


RELAY = """
import socket, sys, threading
gate = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
def pump(a, b):
    while part := a.recv(65536):
        b.sendall(part)
    b.close()
while True:
    a = gate.accept()[0]
    b = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for x, y in ((a, b), (b, a)):
        threading.Thread(target=pump, args=(x, y), daemon=True).start()
"""


def test_what_keyd_lost_is_asked_for_again(jit, db, ldap, idp):  # noqa: F811
    d = jit("{ user: orders_jit, grant_token: machine }")
    assert who(d, db).startswith("orders_jit"), d.log()
    os.kill(d.children()["keyd"], signal.SIGKILL)
    wait_for("the next keyd", lambda: who(d, db).startswith("orders_jit"))
    tokens = [t for _, t, _ in ldap.seen]
    assert len(set(tokens)) == 2, tokens
    assert len(d.ctl("grant.list")) == 2


def test_a_refused_token_is_not_used_again(jit, db, ldap):
    d = jit("{ user: orders_jit, grant_token: machine }")
    ldap.accept = False
    out = who(d, db)
    assert "does not accept Tidegate's credential" in out
    assert ldap.seen[0][1] not in d.log()
    ldap.accept = True
    assert who(d, db).startswith("orders_jit"), d.log()
    assert len({t for _, t, _ in ldap.seen}) == 2


def test_the_end_of_the_token_is_the_end_of_the_grant(jit, db, ldap, idp):  # noqa: F811
    idp.admin_call("/config", {"at_ttl": 4})
    try:
        d = jit("{ user: orders_jit, grant_token: machine }")
        start = time.monotonic()
        out, _ = d.psql_later(db.port, "-c", "SELECT pg_sleep(60)").communicate(timeout=40)
        assert "the granted time is over" in out, out
        assert time.monotonic() - start < 10 * harness.SLOW
        assert who(d, db).startswith("orders_jit"), d.log()
        assert len({t for _, t, _ in ldap.seen}) == 2
    finally:
        idp.admin_call("/config", {"at_ttl": 300})


def test_a_stolen_token_of_the_agents_side(jit, db):
    d = jit("{ user: orders_jit, grant_token: machine }")
    assert who(d, db).startswith("orders_jit"), d.log()
    with pytest.raises(psycopg2.OperationalError, match="LDAP authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=db.port, user="orders_jit", dbname="shop",
                         password="nonsense")
