# SPDX-License-Identifier: MIT
"""Clients that nobody here wrote do the same through the gate as without it."""
import io
import os
import select
import struct
import subprocess
import threading

import harness
import psycopg2
import pytest
from harness import verify, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# No data of these tests has a card number: everything is looked at, nothing is changed.
MASK = {"mask": ["{ detect: [card], as: redact }"]}


@pytest.fixture(params=["plain", "masked"])
def gate(request, gateway):
    d = gateway(workers=2, policy=MASK if request.param == "masked" else {})
    yield d
    wait_for("the sessions to go", lambda: d.ctl("session.list") == [], 15)
    assert [w["restarts"] for w in d.ctl("status")["workers"]] == [0, 0]
    assert d.counters()["proto_bad"] == 0
    wait_for("the recordings", d.recordings)
    for path in d.recordings():
        done = verify(d, path)
        assert done.returncode == 0, done.stdout + done.stderr


def psycopg2_tour(port):
    out = []
    c = psycopg2.connect(host="127.0.0.1", port=port, user="agent", dbname="shop")
    cur = c.cursor()
    cur.executemany("INSERT INTO notes (body) VALUES (%s)", [(f"tour {i}",) for i in range(50)])
    cur.execute("SELECT count(*) FROM notes WHERE body LIKE 'tour %'")
    out.append(cur.fetchall())
    c.rollback()
    named = c.cursor("server_side")
    named.itersize = 100
    named.execute("SELECT i, md5(i::text) FROM generate_series(1, 2500) i")
    out.append(list(named))
    named.close()
    cur.execute("CREATE TEMP TABLE t (a int, b text)")
    cur.copy_expert("COPY t FROM STDIN (FORMAT csv)",
                    io.StringIO("".join(f'{i},"line ""{i}"""\n' for i in range(5000))))
    back = io.StringIO()
    cur.copy_expert("COPY (SELECT * FROM t ORDER BY a) TO STDOUT (FORMAT csv)", back)
    out.append(back.getvalue())
    binary = io.BytesIO()
    cur.copy_expert("COPY (SELECT a FROM t ORDER BY a) TO STDOUT (FORMAT binary)", binary)
    out.append(binary.getvalue())
    binary.seek(0)
    cur.execute("CREATE TEMP TABLE u (a int)")
    cur.copy_expert("COPY u FROM STDIN (FORMAT binary)", binary)
    cur.execute("SELECT count(*), sum(a) FROM u")
    out.append(cur.fetchall())
    c.rollback()
    c.autocommit = True
    for text in ("SELECT 1/0", "SELEC", "SELECT * FROM missing", "SELECT 'not int'::int"):
        try:
            cur.execute(text)
        except psycopg2.Error as e:
            out.append((e.pgcode, str(e)))
    cur.execute("LISTEN tour")
    cur.execute("NOTIFY tour, 'heard'")
    select.select([c], [], [], 0.3)
    c.poll()
    out.append([(n.channel, n.payload) for n in c.notifies])
    cur.execute("DO $$ BEGIN RAISE NOTICE 'noticed'; END $$")
    out.append(c.notices[-1])
    timer = threading.Timer(0.3, c.cancel)
    timer.start()
    try:
        cur.execute("SELECT pg_sleep(20)")
    except psycopg2.Error as e:
        out.append((e.pgcode, str(e)))
    cur.execute("SELECT 'still here'")
    out.append(cur.fetchall())
    c.close()
    return out


def test_psycopg2(gate, pg):
    assert psycopg2_tour(gate.gate) == psycopg2_tour(pg.port)


PSQL = r"""
\pset pager off
SELECT i, i * 1.5, md5(i::text), NULL, now() > 'yesterday' FROM generate_series(1, 1000) i;
SELECT 1 AS a, 'x' AS b, ARRAY[1, 2] AS c \gdesc
SELECT 1 \; SELECT 2 \; SELECT 3;
\set FETCH_COUNT 70
SELECT i, repeat('z', 100) FROM generate_series(1, 1000) i;
\set FETCH_COUNT 0
CREATE TEMP TABLE c (a int, b text);
\copy c FROM PROGRAM 'seq 1 3000 | sed "s/$/,text/"' (FORMAT csv)
\copy (SELECT * FROM c ORDER BY a) TO STDOUT
SELECT count(*) FROM c;
SELECT length(repeat('x', 30000000));
SELECT md5(s), length(s) FROM (SELECT repeat('x', 20000000) s) t;
BEGIN;
SELECT 1/0;
SELECT 'skipped';
ROLLBACK;
PREPARE p (int) AS SELECT $1 + 1;
EXECUTE p (41);
DEALLOCATE p;
\d customers
\dt
"""


def test_psql(gate, pg):
    def run(port):
        return subprocess.run(["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "agent", "-d",
                               "shop"], input=PSQL, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60 * harness.SLOW).stdout
    direct = run(pg.port)
    assert "division by zero" in direct and "3000" in direct and "\n       42" in direct, direct
    assert run(gate.gate) == direct


def test_large_results_are_the_same(gate, pg):
    def digest(port):
        done = subprocess.run(
            f"psql -X -A -t -h 127.0.0.1 -p {port} -U agent -d shop -c \"SELECT repeat(i::text, "
            "20000) FROM generate_series(1, 1000) i\" | sha256sum", shell=True, text=True,
            capture_output=True, timeout=60 * harness.SLOW)
        return done.stdout
    assert digest(gate.gate) == digest(pg.port)


PIPELINE = """\\startpipeline
SELECT count(*) FROM customers;
SELECT :client_id + 1;
\\endpipeline
"""


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared", "pipeline"])
def test_pgbench(gate, pg, tmp_path, mode):
    args = ["pgbench", "-h", "127.0.0.1", "-p", str(gate.gate), "-U", "agent", "-c", "4", "-t", "100"]
    if mode == "pipeline":
        script = tmp_path / "script.sql"
        script.write_text(PIPELINE)
        args += ["-n", "-M", "extended", "-f", str(script)]
    else:
        subprocess.run(["pgbench", "-i", "-q", "-h", "127.0.0.1", "-p", str(gate.gate), "-U", "agent",
                        "shop"], check=True, capture_output=True, timeout=60 * harness.SLOW)
        args += ["-M", mode]
    done = subprocess.run(args + ["shop"], text=True, capture_output=True, timeout=60 * harness.SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "number of transactions actually processed: 400/400" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def libpq_tour(tmp_path_factory):
    if not os.path.exists("/usr/include/postgresql/libpq-fe.h"):
        pytest.skip("libpq-dev is not installed")
    path = str(tmp_path_factory.mktemp("libpq") / "tour")
    subprocess.run(["cc", "-Wall", "-Werror", "-I/usr/include/postgresql", "-o", path,
                    f"{HERE}/libpq_tour.c", "-lpq"], check=True)
    return path


def test_libpq_pipelines(gateway, pg, libpq_tour):
    """Parameters in both formats, single rows and pipelines: the same, but for the card number."""
    def run(port):
        done = subprocess.run([libpq_tour, str(port)], text=True, capture_output=True,
                              timeout=60 * harness.SLOW)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    direct, card = run(pg.port), "4111 1111 1111 1111"
    assert direct.count(card) == 3 and direct.count(card.encode().hex()) == 1, direct
    assert "PGRES_PIPELINE_ABORTED" in direct and "simple again" in direct, direct
    plain, masked = gateway(), gateway(policy=MASK)
    assert run(plain.gate) == direct
    assert run(masked.gate) == direct.replace(card, "***").replace(card.encode().hex(), "2a2a2a")
    for d in (plain, masked):
        assert d.counters()["proto_bad"] == 0


def test_later_protocol_versions_get_3_0(gate):
    """As libpq 18 with max_protocol_version=latest: declined, and the session works."""
    c = harness.Raw(gate.gate, login=False)
    hello = bytearray(harness.startup(**{"_pq_.later": "on"}))
    hello[4:8] = struct.pack(">HH", 3, 2)
    c.send(bytes(hello))
    assert c.next() == (b"v", struct.pack(">II", 3 << 16, 1) + b"_pq_.later\0")
    login = c.until(b"Z")
    assert [len(body) for kind, body in login if kind == b"K"] == [8]
    c.query("SELECT 32")
    assert (b"D", b"\0\1\0\0\0\00232") in c.until(b"Z")
    c.close()


def test_node_postgres(gate, pg):
    found = subprocess.run([f"{HERE}/node/install.sh"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("node-postgres cannot be installed: " + found.stderr[-200:])

    def run(port):
        done = subprocess.run(["node", found.stdout.strip() + "/client.mjs", str(port)], text=True,
                              capture_output=True, timeout=60 * harness.SLOW)
        assert done.returncode == 0, done.stderr
        return done.stdout
    direct = run(pg.port)
    assert '"notification",["news","hello"]' in direct, direct
    assert run(gate.gate) == direct
