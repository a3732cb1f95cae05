# SPDX-License-Identifier: MIT
"""A role that is made when access is granted, and dropped at the end: on a real server."""
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import time

import harness
import psycopg2
import pytest
from harness import policy, reload_with, wait_for
from test_creds import memory_has, secret_file, secrets  # noqa: F401: a fixture

ADMIN = "tide-adm1n-2c90b6"
READER = ["orders_reader", '"GRANT INSERT ON notes TO {role}"']


@pytest.fixture(scope="module")
def server():
    s = harness.Postgres(auth="scram-sha-256", options=["log_statement=all", "log_connections=on"])
    harness.make_shop_as_owner(s)
    s.sql("SET log_statement = none;"
          f"CREATE ROLE tide_admin LOGIN CREATEROLE PASSWORD '{ADMIN}';"
          f"CREATE ROLE weak_admin LOGIN PASSWORD '{ADMIN}'; CREATE ROLE orders_reader;"
          "CREATE DATABASE other")
    s.sql("GRANT SELECT ON customers TO orders_reader;"
          "GRANT INSERT ON notes TO tide_admin WITH GRANT OPTION;"
          "GRANT CREATE ON SCHEMA public TO orders_reader", db="shop")
    s.sql("GRANT CREATE ON SCHEMA public TO public", db="other")
    yield s
    s.stop()


@pytest.fixture
def tidy(server):
    """What a test has left, after its daemon has stopped, is not the next one's trouble."""
    yield
    for role in roles(server):
        server.sql(f'SET ROLE tide_admin; REVOKE INSERT ON notes FROM "{role}"', db="shop")
        for db in "shop", "other":
            server.sql(f'REASSIGN OWNED BY "{role}" TO postgres; DROP OWNED BY "{role}"', db=db)
        server.sql(f'DROP ROLE "{role}"')
    server.sql("DROP TABLE IF EXISTS made_here, for_whom", db="shop")


@pytest.fixture
def gate(tidy, daemon, server, secrets):  # noqa: F811
    secret_file(secrets, ADMIN, "admin.secret")

    def make(grants=READER, extra="", access="builtin", admin="tide_admin", sweep="10m", **kw):
        text = (f"credentials:\n  admin: {{ user: {admin}, password_file: {secrets}/admin.secret }}\n"
                f"  jit:\n    ephemeral_role: {{ admin: admin, grants: [{', '.join(grants)}], "
                f"sweep: {sweep}{extra} }}\n")
        return daemon(text + policy(server.port, access=access, target="credential: jit"), **kw)
    return make


def roles(server):
    return server.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'tg\\_%' ORDER BY 1").split()


def gone(server, seconds=3):
    wait_for("the role to be dropped", lambda: not roles(server), seconds)


def grant(d, ms=600000):
    return d.ctl("grant.create", agent="bot", target="shop", for_ms=ms, reason="test")["id"]


def psql(d, server, sql, db="shop"):
    return d.psql(server.port, "-A", "-t", "-c", sql, db=db).strip()


def sleeper(d, server, db="shop"):
    """A session that stays."""
    p = d.psql_later(server.port, "-c", "SELECT pg_sleep(120)", db=db)
    wait_for("the session", lambda: server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'tg\\_%' AND state = 'active'")
        != "0\n")
    return p


def idle(d, server):
    """A session that waits for its client."""
    n = len(roles(server))
    p = d.popen(["psql", "-X", "-h", "127.0.0.1", "-p", str(server.port), "-U", "agent", "-d", "shop"],
                stdin=subprocess.PIPE)
    p.stdin.write("SELECT 1;\n")
    p.stdin.flush()
    wait_for("the session", lambda: len(roles(server)) == n + 1)
    return p


def audit(d, event):
    with open(f"{d.dir}/state/audit.jsonl") as f:
        return [e for e in map(json.loads, f) if e["event"] == event]


def test_what_was_granted_and_nothing_else(gate, server):
    d = gate(workers=1)
    waiting = d.psql_later(server.port, "-A", "-t", "-c",
                           "SELECT current_user, session_user, count(*) FROM customers GROUP BY 1, 2")
    ask = d.approval()
    assert roles(server) == []  # nobody has said yes
    d.ctl("approval.approve", id=ask["id"])
    out, _ = waiting.communicate(timeout=20)
    (role,) = roles(server)
    assert re.fullmatch(r"tg_bot_[a-z2-7]{26}", role)
    assert out == f"{role}|{role}|3\n", out + d.log()
    assert psql(d, server, "INSERT INTO notes(id, body) VALUES (7, 'x')") == "INSERT 0 1"
    for sql in ("SELECT * FROM notes", "DELETE FROM customers", "CREATE ROLE x",
                "SET ROLE tide_admin", "SET ROLE agent", "CREATE DATABASE x"):
        assert "permission denied" in psql(d, server, sql), sql
    assert len(roles(server)) == 1  # all these sessions were of one grant
    grants = d.ctl("grant.list")
    assert grants[0]["role"] == role
    row = server.sql(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolinherit, "
        "rolcanlogin, rolconnlimit, abs(extract(epoch FROM rolvaliduntil - "
        f"'{grants[0]['until']}'::timestamptz)) < 3, left(rolpassword, 19) FROM pg_authid "
        f"WHERE rolname = '{role}'").strip()
    assert row == "f|f|f|f|f|t|t|20|t|SCRAM-SHA-256$4096:", row
    assert server.sql("SELECT string_agg(m.roleid::regrole::text, ',') FROM pg_auth_members m "
                      f"WHERE m.member = '{role}'::regrole").strip() == "orders_reader"
    comment = server.sql(f"SELECT shobj_description('{role}'::regrole, 'pg_authid')").strip()
    assert re.match(rf"tidegate [0-9a-f]{{16}} until \S+: agent bot, target shop, grant "
                    rf"{grants[0]['id']}$", comment), comment
    shown = d.run([f"{harness.BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", "grant",
                   "list"]).stdout
    assert role in shown, shown
    d.ctl("grant.revoke", id=grants[0]["id"])
    gone(server)
    assert [e["role"] for e in audit(d, "role.made")] == [role]
    assert [e["role"] for e in audit(d, "role.dropped")] == [role]
    wait_for("the recordings", lambda: d.record_text().count(role.encode()) >= 2)
    fact = re.search(rb'\{[^{}]*"login_as":"' + role.encode() + rb'"[^{}]*"role":\{[^{}]*\}\}',
                     d.record_text())
    assert fact and b'"made":"' in fact[0] and b'"until":"' in fact[0], d.record_text()[:4000]


def verifier(password, salt, rounds=4096):
    key = hashlib.pbkdf2_hmac("sha256", password, salt, rounds)
    stored = hashlib.sha256(hmac.digest(key, b"Client Key", "sha256")).digest()
    text = [base64.b64encode(x).decode() for x in (salt, stored, hmac.digest(key, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"


def password_in(pid, stored):
    """The text in a process's memory that this is the verifier of."""
    salt = base64.b64decode(stored.split(":")[1].split("$")[0])
    seen = set()
    with open(f"/proc/{pid}/maps") as f, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in f:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            start, end = (int(x, 16) for x in area.groups()) if area else (0, 0)
            if end - start > 1 << 30:
                continue
            try:
                mem.seek(start)
                seen |= set(re.findall(rb"[0-9a-f]{64}", mem.read(end - start)))
            except OSError:
                continue
    return next((x.decode() for x in seen if verifier(x, salt) == stored), None)


def test_the_password_is_nowhere_but_in_keyd(gate, server):
    d = gate(workers=1)
    g = grant(d)
    p = sleeper(d, server)
    stored = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'tg\\_%'").strip()
    password = password_in(d.children()["keyd"], stored)
    assert password, d.log()
    everyone = dict(d.children(), parent=d.process.pid)
    assert sorted(n for n, pid in everyone.items() if memory_has(pid, password)) == ["keyd"]
    assert sorted(n for n, pid in everyone.items() if memory_has(pid, ADMIN)) == ["keyd"]
    # It would be of use, if somebody had it; what agents have is not.
    (role,) = roles(server)
    psycopg2.connect(host="127.0.0.1", port=server.port, user=role, dbname="shop",
                     password=password).close()
    for word in ("nonsense", stored, role):
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(host="127.0.0.1", port=server.port, user=role, dbname="shop",
                             password=word)
    d.ctl("grant.revoke", id=g)
    out, _ = p.communicate(timeout=20)
    assert "the grant was revoked" in out, out
    gone(server)
    wait_for("it to be forgotten", lambda: not memory_has(d.children()["keyd"], password))
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host="127.0.0.1", port=server.port, user=role, dbname="shop",
                         password=password)
    texts = {"recordings": d.record_text(), "log": d.log().encode()}
    for folder in (f"{d.dir}/state", f"{server.dir}/data/log"):
        for path in ([folder] if os.path.isfile(folder) else
                     [f"{folder}/{n}" for n in os.listdir(folder)]):
            with open(path, "rb") as f:
                texts[path] = f.read()
    assert b"CREATE ROLE" in texts[f"{server.dir}/data/log"]
    for secret in (password, ADMIN):
        assert [n for n, t in texts.items() if secret.encode() in t] == []


def test_sessions_and_what_they_made_end_with_the_grant(gate, server):
    server.sql("GRANT CREATE ON SCHEMA public TO public", db="shop")
    d = gate(workers=2)
    g = grant(d)
    assert psql(d, server, "CREATE TABLE made_here (a int)") == "CREATE TABLE"
    first = [sleeper(d, server) for _ in range(3)]
    assert len(roles(server)) == 1
    start = time.monotonic()
    d.ctl("grant.revoke", id=g)
    gone(server)
    took = time.monotonic() - start
    for p in first:
        out, _ = p.communicate(timeout=20)
        assert "the grant was revoked" in out, out
    assert took < 2.5 * harness.SLOW, took
    assert server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'tg\\_%'") == "0\n"
    # What it had made is still there.
    assert server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'made_here'",
                      db="shop") == "tide_admin\n"
    print(f"dropped {took * 1000:.0f} ms after the end of the grant")


def test_the_end_comes_by_itself(gate, server):
    d = gate(workers=1)
    grant(d, 3000)
    p = sleeper(d, server)
    out, _ = p.communicate(timeout=20)
    assert "the granted time is over" in out, out
    gone(server)


def test_what_it_made_in_another_database(gate, server):
    d = gate(extra=", database: shop", workers=1)
    g = grant(d)
    assert psql(d, server, "CREATE TABLE far_away (a int)", db="other") == "CREATE TABLE"
    assert psql(d, server, "SELECT count(*) FROM customers") == "3"
    assert len(roles(server)) == 1
    d.ctl("grant.revoke", id=g)
    gone(server, 5)
    assert server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'far_away'",
                      db="other") == "tide_admin\n"
    server.sql("DROP TABLE far_away", db="other")


def test_what_it_made_goes_to_somebody_or_away(gate, server):
    server.sql("GRANT agent TO tide_admin; GRANT CREATE ON SCHEMA public TO public", db="shop")
    for extra, left in ((", owner: agent", "agent\n"), (", drop_owned: true", "")):
        d = gate(extra=extra, workers=1)
        g = grant(d)
        assert psql(d, server, "CREATE TABLE for_whom (a int)") == "CREATE TABLE"
        d.ctl("grant.revoke", id=g)
        gone(server)
        assert server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'for_whom'",
                          db="shop") == left
        server.sql("DROP TABLE IF EXISTS for_whom", db="shop")
    server.sql("REVOKE agent FROM tide_admin")


def stuck(d, server, words):
    """The role is there and of no use to anybody; what is said about it."""
    status = wait_for("the warning", lambda: [w for w in d.ctl("status")["warnings"] if words in w])
    (role,) = roles(server)
    assert server.sql(f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'") == "f\n"
    return status


@pytest.fixture
def no_code(server):
    yield
    server.sql("DROP FUNCTION IF EXISTS public.trap(), public.trap(oid, regclass) CASCADE;"
               "DROP TABLE IF EXISTS kept CASCADE; DROP ROLE IF EXISTS by_an_agent", db="shop")


TRAP = """
CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN CREATE ROLE by_an_agent; RETURN current_user; END $$"""


def test_what_it_made_does_not_run_as_the_administrator(no_code, gate, server):
    server.sql("GRANT CREATE ON SCHEMA public TO public; GRANT CREATE ON SCHEMA public TO tide_admin",
               db="shop")
    d = gate(workers=1)
    g = grant(d)
    assert psql(d, server, TRAP) == "CREATE FUNCTION"
    d.ctl("grant.revoke", id=g)
    status = stuck(d, server, "function public.trap()")
    assert "`owner`" in status[0] and "`drop_owned`" in status[0], status
    grant(d)
    assert "permission denied" in psql(d, server, "SELECT public.trap()")
    assert server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'by_an_agent'") == "0\n"


CODE = {
    "view": ("CREATE VIEW kept AS SELECT * FROM customers", "view public.kept"),
    "rule": ("CREATE TABLE kept (a int); CREATE RULE r AS ON INSERT TO kept DO ALSO NOTHING",
             "table public.kept"),
    "cascade": ("CREATE TABLE kept (a int PRIMARY KEY, b int DEFAULT 0 REFERENCES kept "
                "ON DELETE SET DEFAULT)", "table public.kept"),
    "domain": ("CREATE DOMAIN kept AS int CHECK (VALUE > 0)", "type public.kept"),
}


@pytest.mark.parametrize("name", CODE)
def test_what_else_it_made_that_is_code(no_code, gate, server, name):
    sql, words = CODE[name]
    server.sql("GRANT CREATE ON SCHEMA public TO public", db="shop")
    d = gate(workers=1)
    g = grant(d)
    assert "ERROR" not in psql(d, server, sql)
    d.ctl("grant.revoke", id=g)
    stuck(d, server, words)
    reload_with(d, "sweep: 10m", "sweep: 10m, drop_owned: true")
    gone(server, 20)


def test_data_is_kept(no_code, gate, server):
    server.sql("GRANT CREATE ON SCHEMA public TO public", db="shop")
    d = gate(workers=1)
    g = grant(d)
    assert "ERROR" not in psql(d, server, "CREATE TABLE kept (id serial PRIMARY KEY, b text UNIQUE, "
                               "up int REFERENCES kept, CHECK (id > 0)); CREATE INDEX ON kept (lower(b))")
    d.ctl("grant.revoke", id=g)
    gone(server)
    assert server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'",
                      db="shop") == "tide_admin\n"


def test_an_owner_that_is_too_powerful(no_code, gate, server):
    server.sql("GRANT CREATE ON SCHEMA public TO public;"
               "DO $$ BEGIN CREATE ROLE mighty CREATEROLE; EXCEPTION WHEN duplicate_object THEN END $$",
               db="shop")
    for owner in "mighty", "postgres", "tide_admin":
        d = gate(extra=f", owner: {owner}", workers=1)
        g = grant(d)
        psql(d, server, "CREATE VIEW kept AS SELECT 1")
        d.ctl("grant.revoke", id=g)
        stuck(d, server, "`owner`")
        server.sql("DROP VIEW kept", db="shop")
        reload_with(d, f", owner: {owner}", "")
        gone(server, 20)
        d.stop_process()


def test_an_operator_in_the_way_is_not_asked(no_code, gate, server):
    """Without search_path an equal sign of theirs would run as the administrator."""
    server.sql("GRANT CREATE ON SCHEMA public TO public", db="shop")
    d = gate(extra=", drop_owned: true, database: shop", workers=1)
    g = grant(d)
    assert psql(d, server, "CREATE TABLE far_away (a int)", db="other") == "CREATE TABLE"
    out = psql(d, server, """
        CREATE FUNCTION public.trap(oid, regclass) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$
        BEGIN IF current_user LIKE '%admin' AND NOT EXISTS (SELECT FROM pg_roles WHERE
          rolname = 'by_an_agent') THEN CREATE ROLE by_an_agent; END IF; RETURN true; END $$;
        CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.trap)""")
    assert "ERROR" not in out, out
    d.ctl("grant.revoke", id=g)
    gone(server)
    assert server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'by_an_agent'") == "0\n"


def test_a_role_for_each_session_without_a_grant(gate, server):
    d = gate(access="none", workers=2)
    sessions = [idle(d, server) for _ in range(2)]
    wait_for("both", lambda: len(roles(server)) == 2)
    sessions[0].kill()
    sessions[0].communicate()
    wait_for("one to be gone", lambda: len(roles(server)) == 1)
    os.kill([pid for name, pid in d.children().items() if name.startswith("worker")][0],
            signal.SIGKILL)
    os.kill([pid for name, pid in d.children().items() if name.startswith("worker")][-1],
            signal.SIGKILL)
    gone(server, 5)
    sessions[1].kill()
    sessions[1].communicate()


def test_keyd_dies(gate, server):
    d = gate(workers=1)
    g = grant(d)
    assert psql(d, server, "SELECT 1") == "1"
    before = roles(server)
    stored = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'tg\\_%'")
    p = sleeper(d, server)
    os.kill(d.children()["keyd"], signal.SIGKILL)
    assert psql(d, server, "SELECT session_user") == before[0], d.log()
    assert roles(server) == before
    assert p.poll() is None
    assert stored != server.sql("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'tg\\_%'")
    d.ctl("grant.revoke", id=g)
    gone(server, 5)
    p.communicate()


def test_roled_dies(gate, server):
    d = gate(workers=1)
    g = grant(d)
    assert psql(d, server, "SELECT 1") == "1"
    os.kill(d.children()["roled"], signal.SIGKILL)
    d.ctl("grant.revoke", id=g)
    gone(server, 5)
    grant(d)
    assert psql(d, server, "SELECT 1") == "1"


def test_the_daemon_is_killed(gate, server):
    d = gate(workers=1)
    grant(d)
    p = sleeper(d, server)
    server.sql("CREATE ROLE tg_bot_of_somebody_else LOGIN;"
               "CREATE ROLE tg_other LOGIN; COMMENT ON ROLE tg_other IS "
               "'tidegate 0123456789abcdef until 2020-01-01T00:00:00.000Z: another'")
    d.process.kill()
    d.process.wait()
    p.communicate(timeout=20)
    assert len(roles(server)) == 3
    d.start()
    wait_for("the sweep", lambda: roles(server) == ["tg_bot_of_somebody_else", "tg_other"], 5)
    assert "was left behind" in d.log()
    assert len(audit(d, "role.found")) == 1 and len(audit(d, "role.dropped")) == 1
    assert d.ctl("status")["roles"]["left_behind"] == 1


def test_the_daemon_is_stopped(gate, server):
    d = gate(workers=1)
    grant(d)
    assert psql(d, server, "SELECT 1") == "1"
    assert len(roles(server)) == 1
    d.process.terminate()
    d.process.wait(20)
    assert roles(server) == []


def test_the_database_is_down_at_the_end(gate, server):
    d = gate(workers=1)
    g = grant(d)
    assert psql(d, server, "SELECT 1") == "1"
    (role,) = roles(server)
    os.kill(server.pid, signal.SIGINT)
    wait_for("the database to be down", lambda: not os.path.exists(f"/proc/{server.pid}"))
    d.ctl("grant.revoke", id=g)
    status = wait_for("the warning", lambda: [w for w in d.ctl("status")["warnings"] if role in w])
    assert "is not dropped: Connection refused" in status[0], status
    assert d.counters()["role_left"] >= 1
    start(server)
    gone(server, 40)
    wait_for("no warning", lambda: not [w for w in d.ctl("status")["warnings"] if role in w])


def start(server):
    with open(f"{server.data}/postmaster.opts") as f:
        options = f.read().split(" ", 1)[1].replace('"', "'").strip()
    server.run([f"{harness.PGBIN[0]}/pg_ctl", "-D", server.data, "-w", "-t", "60", "-l",
                f"{server.data}/log", "-o", options, "start"])
    with open(f"{server.data}/postmaster.pid") as f:
        server.pid = int(f.readline())


REFUSED = {
    "no right to make roles": (dict(admin="weak_admin"), "the administrator needs CREATEROLE"),
    "no such role": (dict(grants=["nobody_is_called_so"]), "a role or object in `grants` is not there"),
    "no such table": (dict(grants=['"GRANT SELECT ON no_such TO {role}"']),
                      "a table in `grants` is not there"),
    "no grant at all": (dict(grants=['"GRANT nonsense nonsense TO {role}"']), "is not understood"),
    "not its own to give": (dict(grants=['"GRANT DELETE ON customers TO {role}"']),
                            "the administrator needs CREATEROLE"),
    # Of this the server grants a part, and only warns.
    "not all its own to give": (dict(grants=['"GRANT INSERT, DELETE ON notes TO {role}"']),
                                "may not pass on all of `grants`"),
    "no such login": (dict(admin="nobody"), "does not accept the administrator's credential"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_cannot_be_made(gate, server, name):
    kw, words = REFUSED[name]
    d = gate(workers=1, **kw)
    grant(d)
    out = psql(d, server, "SELECT 1")
    assert "no role could be made on the target" in out and words in out, out + d.log()
    assert roles(server) == []
    assert d.counters()["role_failed"] and ADMIN not in out
    assert audit(d, "role.failed")


def test_a_database_that_is_not_there(gate, server):
    d = gate(workers=1)
    grant(d)
    assert "the database is not there" in psql(d, server, "SELECT 1", db="nowhere")
    assert psql(d, server, "SELECT 1") == "1", d.log()


def test_somebody_has_dropped_it(gate, server):
    d = gate(workers=1)
    grant(d)
    assert psql(d, server, "SELECT 1") == "1"
    (role,) = roles(server)
    server.sql(f'SET ROLE tide_admin; REVOKE INSERT ON notes FROM "{role}"', db="shop")
    server.sql(f'DROP ROLE "{role}"')
    assert "does not accept Tidegate's credential" in psql(d, server, "SELECT 1")
    assert psql(d, server, "SELECT 1") == "1", d.log()
    assert roles(server) not in ([], [role])


def test_names_are_quoted(gate, server):
    server.sql('CREATE ROLE "odd ""one""; DROP";')
    server.sql('GRANT SELECT ON notes TO "odd ""one""; DROP"', db="shop")
    server.sql('CREATE DATABASE "my ""db"" \'\\x"')
    d = gate(grants=["'odd \"one\"; DROP'", '"GRANT CONNECT ON DATABASE {database} TO {role}"'],
             workers=1)
    server.sql('GRANT CONNECT ON DATABASE "my ""db"" \'\\x", shop TO tide_admin WITH GRANT OPTION')
    g = grant(d)
    assert psql(d, server, "SELECT count(*) >= 0 FROM notes") == "t", d.log()
    assert psql(d, server, "SELECT current_database()", db='my "db" \'\\x') == 'my "db" \'\\x', d.log()
    assert len(roles(server)) == 2  # one a database, where it is the session's
    d.ctl("grant.revoke", id=g)
    gone(server, 5)


def test_over_an_upgrade(gate, server):
    d = gate(workers=1)
    g = grant(d)
    p = sleeper(d, server)
    before = roles(server)
    d.ctl("daemon.upgrade", timeout=30)
    assert psql(d, server, "SELECT session_user") == before[0], d.log()
    assert p.poll() is None and roles(server) == before
    d.ctl("grant.revoke", id=g)
    out, _ = p.communicate(timeout=20)
    assert "the grant was revoked" in out, out
    gone(server, 5)


def test_an_agent_that_takes_the_place_in_the_queue(gate, server):
    """The lock by which roles are made in turn is anybody's to take, and to keep."""
    d = gate(access="none", workers=2)
    p = d.psql_later(server.port, "-c", "SELECT pg_advisory_lock(1952736116, 1919904869), pg_sleep(120)")
    wait_for("the lock", lambda: server.sql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952736116 AND granted") == "1\n")
    waiting = [d.psql_later(server.port, "-A", "-t", "-c", "SELECT session_user") for _ in range(6)]
    names = {q.communicate(timeout=60)[0].strip() for q in waiting}
    assert len(names) == 6 and all(n.startswith("tg_bot_") for n in names), names
    wait_for("the others to be dropped", lambda: len(roles(server)) == 1, 20)
    assert p.poll() is None
    p.kill()
    p.communicate()
    gone(server, 10)


def test_many_at_once(gate, server):
    d = gate(access="none", workers=2)
    waiting = [d.psql_later(server.port, "-A", "-t", "-c", "SELECT session_user") for _ in range(20)]
    names = [p.communicate(timeout=60)[0].strip() for p in waiting]
    assert len(set(names)) == 20 and all(n.startswith("tg_bot_") for n in names), names
    gone(server, 10)
    assert d.ctl("status")["roles"]["dropped"] == 20
