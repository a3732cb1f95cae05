# SPDX-License-Identifier: MIT
"""Tidegate logs in in the agent's place: the agent has no password that the server knows."""
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

import harness
import psycopg2
import pytest
from harness import policy, wait_for

SECRET = "tide-S3cret-9b41c7d0"  # of shop_ro; found nowhere but in keyd
OTHER = "tide-0ther-55e1a2f8"    # of shop_rw


def prepare(server):
    harness.make_shop_as_owner(server)
    server.sql(f"CREATE ROLE shop_ro LOGIN PASSWORD '{SECRET}';"
               f"CREATE ROLE shop_rw LOGIN PASSWORD '{OTHER}';")
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO shop_ro;"
               "GRANT ALL ON ALL TABLES IN SCHEMA public TO shop_rw;", db="shop")


@pytest.fixture(scope="module", params=["scram-sha-256", "md5", "password"])
def strict(request):
    method = request.param
    server = harness.Postgres(auth=method, options=[
        "password_encryption=" + ("md5" if method == "md5" else "scram-sha-256")])
    prepare(server)
    server.method = method
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scram():
    server = harness.Postgres(auth="scram-sha-256")
    prepare(server)
    yield server
    server.stop()


def secret_file(d, text=SECRET, name="shop.secret"):
    with open(f"{d}/{name}", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(text + "\n")


@pytest.fixture
def secrets():
    path = tempfile.mkdtemp(prefix="tidegate-creds-")
    os.chmod(path, 0o711)
    secret_file(path)
    yield path
    shutil.rmtree(path)


def conf(port, secrets, credential=None, target="", clear_text=False, **kw):
    credential = credential or f"{{ user: shop_ro, password_file: {secrets}/shop.secret, " \
                               f"clear_text: {str(clear_text).lower()} }}"
    return f"credentials:\n  shop-ro: {credential}\n" + policy(
        port, target="credential: shop-ro\n" + target, **kw)


def login(d, port, *args, password="nonsense", **kw):
    return d.run(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(port), "-U", "agent", "-d",
                  "shop", *args], env=dict(os.environ, PGPASSWORD=password, **kw)).stdout


def memory_has(pid, secret):
    """Whether a process has these bytes somewhere."""
    want = secret.encode()
    with open(f"/proc/{pid}/maps") as f, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in f:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not area or "[v" in line:
                continue
            start, end = (int(x, 16) for x in area.groups())
            if end - start > 4 << 30:  # a sanitizer's shadow, which holds none of the bytes
                continue
            try:
                mem.seek(start)
                if want in mem.read(end - start):
                    return True
            except (OSError, ValueError, OverflowError):
                continue
    return False


def holders(d, secret):
    everyone = dict(d.children(), parent=d.process.pid)
    return sorted(name for name, pid in everyone.items() if memory_has(pid, secret))


WHO = "SELECT current_user, session_user, current_database()"


def test_login_in_the_agents_place(daemon, strict, secrets):
    d = daemon(conf(strict.port, secrets, clear_text=strict.method == "password"), workers=1)
    assert login(d, strict.port, "-c", WHO) == "shop_ro|shop_ro|shop\n", d.log()
    # The password is not the server's, and asked for by nobody.
    assert login(d, strict.port, "-c", WHO, password="") == "shop_ro|shop_ro|shop\n"
    assert "permission denied" in login(d, strict.port, "-c", "DELETE FROM customers")
    assert holders(d, SECRET) == ["keyd"]
    wait_for("the record", lambda: b'"login_as":"shop_ro"' in d.record_text())
    assert b'"user":"agent"' in d.record_text()
    assert SECRET.encode() not in d.record_text() and b"SCRAM" not in d.record_text()
    assert SECRET not in d.log()


def test_the_password_of_the_agent_opens_nothing(daemon, scram, secrets):
    d = daemon(conf(scram.port, secrets), workers=1)
    assert login(d, scram.port, "-c", WHO).startswith("shop_ro")
    for user in ("agent", "shop_ro"):
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(host="127.0.0.1", port=scram.port, user=user, dbname="shop",
                             password="nonsense")


PYTHON = """
import psycopg2, sys
c = psycopg2.connect(host="127.0.0.1", port=int(sys.argv[1]), user="whoever", dbname="shop",
                     password="nonsense", application_name="py", options="-c statement_timeout=7s")
q = c.cursor()
q.execute("SELECT current_user, current_setting('application_name'), "
          "current_setting('statement_timeout'), %s", ("x",))
print(q.fetchone())
"""


def test_psycopg2_by_any_name(daemon, scram, secrets):
    d = daemon(conf(scram.port, secrets), workers=1)
    out = d.run(["/usr/bin/python3", "-c", PYTHON, str(scram.port)]).stdout
    assert out == "('shop_ro', 'py', '7s', 'x')\n", d.log()
    out = d.psql(scram.port, "-A", "-t", "-c", "SELECT current_database()", user="shop", db="")
    assert out == "shop\n"  # the database of the client's user keeps its name


def test_what_is_shown(daemon, scram, secrets):
    d = daemon(conf(scram.port, secrets), workers=1)
    busy = d.psql_later(scram.port, "-c", "SELECT pg_sleep(30)")
    row = wait_for("the session", lambda: [s for s in d.ctl("session.list")
                                           if s["login_as"] and s["state"] == "run"])[0]
    assert (row["user"], row["login_as"]) == ("agent", "shop_ro")
    show = d.run([f"{harness.BUILD}/tidegate", "-s", f"{d.dir}/run/control.sock", "target", "show",
                  "shop"]).stdout
    assert re.search(r"credential +shop-ro", show), show
    # A cancel request is still the agent's to make.
    busy.send_signal(signal.SIGINT)
    out, _ = busy.communicate(timeout=20)
    assert "canceling statement" in out


def test_approval_comes_first(daemon, scram, secrets):
    d = daemon(conf(scram.port, secrets, access="builtin"), workers=1)
    waiting = d.psql_later(scram.port, "-A", "-t", "-c", WHO)
    ask = d.approval()
    assert ask["user"] == "agent"
    assert scram.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop_ro'") == "0\n"
    d.ctl("approval.approve", id=ask["id"])
    out, _ = waiting.communicate(timeout=20)
    assert out == "shop_ro|shop_ro|shop\n", d.log()


def test_masks_and_catalog(daemon, scram, secrets):
    target = f"catalog: {{ user: tidegate_catalog, password_file: $DIR/catalog.password }}"
    d = daemon(conf(scram.port, secrets, target=target, mask=["{ column: customers.ssn, as: last4 }"]),
               workers=1)
    out = login(d, scram.port, "-c", "SELECT ssn, name FROM customers WHERE id = 1")
    assert out == "***-**-6789|Ada Lovelace\n", out + d.log()


def test_a_wrong_password_is_the_operators_trouble(daemon, scram, secrets):
    secret_file(secrets, "of-yesterday")
    d = daemon(conf(scram.port, secrets), workers=1)
    out = login(d, scram.port, "-c", WHO)
    assert "does not accept Tidegate's credential" in out and "shop_ro" not in out
    assert 'password authentication failed for user "shop_ro"' in d.log()
    assert "of-yesterday" not in d.log()
    assert d.counters()["credential_refused"] == 1
    secret_file(secrets)
    d.ctl("policy.reload")
    wait_for("the new password", lambda: login(d, scram.port, "-c", WHO).startswith("shop_ro"))


def test_a_file_that_others_can_read_is_not_used(daemon, scram, secrets):
    os.chmod(f"{secrets}/shop.secret", 0o644)
    d = daemon(conf(scram.port, secrets), workers=1)
    assert "no usable credential" in login(d, scram.port, "-c", WHO)
    assert "shop.secret (credential shop-ro:shop_ro) cannot be used: others may read" in d.log()


def test_clear_text_is_not_told_unless_allowed(daemon, strict, secrets):
    d = daemon(conf(strict.port, secrets), workers=1)
    out = login(d, strict.port, "-c", WHO)
    if strict.method == "password":
        assert "a kind of login that Tidegate's credential is not used for" in out
        assert d.counters()["credential_method"] == 1
        assert holders(d, SECRET) == ["keyd"]
    else:
        assert out.startswith("shop_ro|")


def test_a_server_that_asks_for_nothing(daemon, pg, secrets):
    pg.sql("CREATE ROLE shop_ro LOGIN")
    d = daemon(conf(pg.port, secrets), workers=1)
    out = login(d, pg.port, "-c", WHO)
    assert "lets Tidegate's user in without asking for a password" in out
    assert d.counters()["credential_unasked"] == 1


@pytest.mark.parametrize("trust", [False, True])
def test_a_socket_that_asks_for_nothing(daemon, pg, secrets, trust):
    target = f"socket: {pg.dir}/.s.PGSQL.{pg.port}\n" + ("socket_auth: trust\n" if trust else "")
    d = daemon(conf(pg.port, secrets, target=target), workers=1)
    out = login(d, pg.port, "-c", "SELECT session_user")
    assert (out == "shop_ro\n") if trust else ("without asking" in out)


def test_another_credential_ends_what_had_the_old_one(daemon, scram, secrets):
    secret_file(secrets, OTHER, "rw.secret")
    text = conf(scram.port, secrets).replace(
        "policy:", "policy:", 1).replace("credentials:\n",
        f"credentials:\n  shop-rw: {{ user: shop_rw, password_file: {secrets}/rw.secret }}\n")
    d = daemon(text, workers=1)
    busy = d.psql_later(scram.port, "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)")
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"])
    harness.reload_with(d, "credential: shop-ro", "credential: shop-rw")
    out, _ = busy.communicate(timeout=20)
    assert "the policy no longer allows this session" in out
    wait_for("the other", lambda: login(d, scram.port, "-c", WHO).startswith("shop_rw"))


# ------------------------------------------------------------------- programs

ACCOUNT = "nobody"


def program(secrets, body, mode=0o755):
    path = f"{secrets}/tell"
    fresh = f"{path}.new"
    with open(fresh, "w") as f:
        os.fchmod(f.fileno(), mode)
        f.write("#!/bin/sh\n" + body)
    os.rename(fresh, path)
    return path


def told(secrets, extra="", run_as=ACCOUNT):
    return f"{{ exec: [{secrets}/tell, a b, '$x'], run_as: {run_as}{extra} }}"


def counted(secrets):
    """A folder where the program can leave a line for each run."""
    out = f"{secrets}/runs"
    with open(out, "w"):
        pass
    os.chmod(out, 0o666)
    return out


def runs(path):
    with open(path) as f:
        return f.read().splitlines()


def test_a_program_tells(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"""
ls -l /proc/self/fd | sed -n 's/.*-> //p' | grep -v '^/proc' >> {out}
echo "$(id -u) $(id -G) $TIDEGATE_CREDENTIAL $(pwd) [$1] [$2] $(env | grep -c '^\\(TIDEGATE\\|PATH\\)')" >> {out}
grep -E 'NoNewPrivs|CapEff' /proc/self/status >> {out}
ulimit -c >> {out}
echo 'said {SECRET} by mistake' >&2
echo '{{"user": "shop_ro", "password": "{SECRET}", "expires_in": 3600, "lease": "x"}}'
""")
    d = daemon(conf(scram.port, secrets, told(secrets)), workers=1)
    assert login(d, scram.port, "-c", WHO) == "shop_ro|shop_ro|shop\n", d.log()
    assert login(d, scram.port, "-c", WHO) == "shop_ro|shop_ro|shop\n"
    lines = runs(out)
    nobody = pwd.getpwnam(ACCOUNT)
    assert f"{nobody.pw_uid} {nobody.pw_gid} shop-ro / [a b] [$x] 2" in lines
    assert "NoNewPrivs:\t1" in lines and "CapEff:\t0000000000000000" in lines and "0" in lines
    fds = lines[:lines.index(f"{nobody.pw_uid} {nobody.pw_gid} shop-ro / [a b] [$x] 2")]
    assert set(f.split(":")[0] for f in fds) <= {"/dev/null", "pipe"}, fds
    assert len([line for line in lines if "NoNewPrivs" in line]) == 1  # asked once
    assert holders(d, SECRET) == ["keyd"]
    assert SECRET not in d.log()


def test_an_answer_ends_and_is_asked_for_again(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"""
echo run >> {out}
echo '{{"user": "shop_ro", "password": "{SECRET}", "expires_in": 2}}'
""")
    d = daemon(conf(scram.port, secrets, told(secrets)), workers=1)
    for _ in range(2):
        assert login(d, scram.port, "-c", WHO).startswith("shop_ro"), d.log()
        time.sleep(1.2)
    assert len(runs(out)) == 2
    program(secrets, "exit 3\n")  # and then the provider is away
    time.sleep(1)
    assert "no usable credential" in login(d, scram.port, "-c", WHO)
    assert "its program exited with status 3" in d.log()


def test_a_refused_answer_is_asked_for_again(daemon, scram, secrets):
    program(secrets, "echo of-yesterday\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro, keep: 1d")), workers=1)
    assert "does not accept" in login(d, scram.port, "-c", WHO)
    program(secrets, f"echo {SECRET}\n")
    assert login(d, scram.port, "-c", WHO).startswith("shop_ro"), d.log()


def test_many_wait_for_one_program(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"echo run >> {out}; sleep 1; echo {SECRET}\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro")), workers=2)
    waiting = [d.psql_later(scram.port, "-A", "-t", "-c", WHO) for _ in range(8)]
    for w in waiting:
        got, _ = w.communicate(timeout=30)
        assert got.startswith("shop_ro|"), got + d.log()
    assert len(runs(out)) == 1


def test_a_slow_program_is_killed(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"echo $$ > {out}; sleep 100 & wait; echo {SECRET}\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro, timeout: 500ms")), workers=1)
    start = time.monotonic()
    assert "no usable credential" in login(d, scram.port, "-c", WHO)
    assert time.monotonic() - start < 5 * harness.SLOW
    assert "did not end in time, and was killed" in d.log()
    pid = int(runs(out)[0])

    def left():
        rows = subprocess.run(["ps", "-s", str(pid), "-o", "stat=,args="], capture_output=True,
                              text=True).stdout.splitlines()
        return [row for row in rows if not row.startswith("Z")]
    wait_for("all of it to be gone", lambda: not left())


BAD = {
    "nothing": ("true", "it is empty"),
    "two lines": (f"printf 'a\\nb\\n'", "more than one line"),
    "too much": ("head -c 20000 /dev/zero | tr '\\0' x", "it is too much"),
    "no password": ("echo '{\"user\": \"shop_ro\"}'", "`password` is missing"),
    "no JSON": ("echo '{\"password\": '", "it is no JSON object"),
    "another user": ("echo '{\"user\": \"postgres\", \"password\": \"x\"}'", "another user"),
    "a strange end": ("echo '{\"password\": \"x\", \"expires_in\": -1}'", "`expires_in`"),
    "a signal": ("kill -SEGV $$", "its program died"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_program_that_tells_nothing_of_use(daemon, scram, secrets, name):
    body, why = BAD[name]
    program(secrets, body + "\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro")), workers=1)
    assert "no usable credential" in login(d, scram.port, "-c", WHO)
    assert why in d.log()


def test_a_program_that_must_not_run(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"echo run >> {out}; echo {SECRET}\n", mode=0o777)
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro")), workers=1)
    assert "no usable credential" in login(d, scram.port, "-c", WHO)
    assert "others may change it" in d.log()
    harness.reload_with(d, f"run_as: {ACCOUNT}", "run_as: tidegate")
    wait_for("keyd", lambda: "no usable" in login(d, scram.port, "-c", WHO) and
             "an account of Tidegate itself" in d.log())
    assert not runs(out)


def test_keyd_dies_during_a_login(daemon, scram, secrets):
    program(secrets, f"sleep 1.5; echo {SECRET}\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro")), workers=1)
    waiting = d.psql_later(scram.port, "-A", "-t", "-c", WHO)
    wait_for("the session", lambda: d.ctl("session.list"))
    time.sleep(0.3)
    os.kill(d.children()["keyd"], signal.SIGKILL)
    out, _ = waiting.communicate(timeout=30)
    assert out.startswith("shop_ro|"), out + d.log()
    # Killed when nobody waits, too: it reads its files again.
    os.kill(d.children()["keyd"], signal.SIGKILL)
    assert login(d, scram.port, "-c", WHO).startswith("shop_ro|"), d.log()


def test_no_core_dumps(daemon, scram, secrets):
    d = daemon(conf(scram.port, secrets), workers=1)
    for name, pid in d.children().items():
        with open(f"/proc/{pid}/limits") as f:
            assert re.search(r"Max core file size +0 +0 ", f.read()), name


def test_nothing_stays_behind_a_login_that_waits_for_the_disk(daemon, strict, secrets):
    d = daemon(conf(strict.port, secrets, clear_text=True), workers=1, extra=", durability: disk")
    busy = d.psql_later(strict.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["state"] == "run" and
                                     s["login_as"]])
    wait_for("its login", lambda: strict.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop_ro' AND state = 'active'") == "1\n")
    assert holders(d, SECRET) == ["keyd"]
    busy.kill()
    busy.communicate()


def test_who_goes_away_while_a_program_runs(daemon, scram, secrets):
    out = counted(secrets)
    program(secrets, f"echo run >> {out}; sleep 1; echo {SECRET}\n")
    d = daemon(conf(scram.port, secrets, told(secrets, ", user: shop_ro")), workers=1)
    waiting = d.psql_later(scram.port, "-c", WHO)
    wait_for("the program", lambda: runs(out))
    waiting.kill()
    waiting.communicate()
    wait_for("the end of the session", lambda: not d.ctl("session.list"))
    assert login(d, scram.port, "-c", WHO).startswith("shop_ro|"), d.log()
    assert len(runs(out)) == 1
