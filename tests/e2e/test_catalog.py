# SPDX-License-Identifier: MIT
"""Column masks against the catalog of a real PostgreSQL: what the catalog
queries find, and what the plans make of the columns a server describes.
Starts a throw-away server on 127.0.0.1; skipped where there is none to start."""

import json
import os
import subprocess

import harness
import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("O", "build"))

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text UNIQUE, email text, note text,
  ssn_tail text GENERATED ALWAYS AS (substr(ssn, 8)) STORED);
INSERT INTO customers VALUES (1, 'Alice', '123-45-6789', 'alice@example.com', repeat('n', 10));
CREATE TABLE orders (id int, customer int, ssn text, total numeric);
CREATE SCHEMA other;
CREATE TABLE other.customers (ssn text, x int);
CREATE TABLE plain (a int, b text);
CREATE TABLE people (id int, tax_id text, born date) PARTITION BY RANGE (id);
CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (100);
CREATE TABLE parent (a text);
CREATE TABLE child (secret text) INHERITS (parent);
CREATE TABLE grandparent (secret text);
CREATE TABLE middle () INHERITS (grandparent);
CREATE TABLE dropped (gone text, a text, secret text);
ALTER TABLE dropped DROP COLUMN gone;
CREATE VIEW v_direct AS SELECT id, ssn AS tax, upper(ssn) AS shout, name FROM customers;
CREATE VIEW v_again AS SELECT tax, id + 1 AS next_id, name FROM v_direct;
CREATE VIEW v_clean AS SELECT id, name, upper(name) AS loud FROM customers;
CREATE VIEW v_row AS SELECT c.id, to_jsonb(c) AS doc FROM customers c;
CREATE VIEW v_union AS SELECT ssn AS s FROM customers UNION SELECT b FROM plain;
CREATE VIEW v_sub AS SELECT q.s, q.n FROM (SELECT ssn AS s, name AS n FROM customers) q;
CREATE VIEW v_weird AS SELECT ssn AS "a {b} (c) \\d", name AS "n :resno 1" FROM customers;
CREATE MATERIALIZED VIEW mv AS SELECT id, ssn FROM customers;
CREATE FUNCTION get_ssn(i int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers WHERE id = i';
CREATE FUNCTION lower(i int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers WHERE id = i';
CREATE VIEW v_func AS SELECT id, get_ssn(id) AS v FROM plain, generate_series(1, 1) AS g(id);
CREATE VIEW v_count AS SELECT count(*) AS n FROM customers;
ANALYZE;
"""

RULES = ["public.customers.ssn=last4", "people_1.tax_id=hash", "child.secret=null",
         "grandparent.secret=redact", "dropped.secret=redact"]

R, N, L, H, Z = "redact", "none", "last4", "hash", "null"

# statement, how each column is masked, tainted, texts hidden
CASES = [
    ("SELECT id, name, ssn FROM customers", [N, N, L], True, True),
    ("SELECT ssn AS harmless FROM customers AS c", [L], True, True),
    ("SELECT * FROM customers", [N, N, L, N, N, R], True, True),
    ("TABLE customers", [N, N, L, N, N, R], True, True),
    ("SELECT upper(ssn), ssn || '' FROM customers", [R, R], True, True),
    ("SELECT name || 'x', count(*) FROM customers GROUP BY 1", [N, N], False, True),
    ("SELECT max(name), count(*) FROM customers", [N, N], False, True),
    ("SELECT upper(q.s) FROM (SELECT ssn AS s FROM customers) q", [R], True, True),
    ("SELECT q.s FROM (SELECT ssn AS s FROM customers) q", [L], True, True),
    ("WITH w AS (SELECT ssn FROM customers) SELECT ssn FROM w", [L], True, True),
    ("WITH w AS MATERIALIZED (SELECT ssn AS z FROM customers) SELECT z, z || '' FROM w", [L, R], True, True),
    ("SELECT upper(c) FROM customers AS t(a, b, c)", [R], True, True),
    ("SELECT to_jsonb(c) FROM customers c", [R], True, True),
    ("SELECT row_to_json(customers) FROM customers", [R], True, True),
    ("SELECT (customers).ssn FROM customers", [L], True, True),
    ("SELECT ssn(c) FROM customers c", [L], True, True),
    ("SELECT id FROM customers WHERE ssn LIKE '1%'", [N], True, True),
    ("SELECT b FROM plain UNION SELECT ssn FROM customers", [R], True, True),
    ("SELECT array_agg(ssn) FROM customers", [R], True, True),
    ("SELECT b, upper(b), a + 1 FROM plain", [N, N, N], False, False),
    ("SELECT 1, 'x', now(), version()", [N, N, N, N], False, False),
    ("SELECT customer, ssn FROM orders", [N, N], True, True),
    ("SELECT ssn FROM other.customers", [N], True, True),
    ("SELECT ssn_tail FROM customers", [R], True, True),
    ("SELECT tax_id, born FROM people", [H, N], True, True),
    ("SELECT tax_id, born FROM people_1", [H, N], True, True),
    ("SELECT a, secret FROM child", [N, Z], True, True),
    ("SELECT a FROM parent", [N], False, False),
    ("SELECT secret FROM middle", [R], True, True),
    ("SELECT secret, a FROM dropped", [R, N], True, True),
    ("SELECT * FROM v_direct", [N, L, R, N], True, True),
    ("SELECT * FROM v_again", [L, R, N], True, True),
    ("SELECT tax || '' FROM v_again", [R], True, True),
    ("SELECT * FROM v_clean", [N, N, N], False, False),
    ("SELECT id, doc FROM v_row", [N, R], True, True),
    ("SELECT s FROM v_union", [R], True, True),
    ("SELECT s, n FROM v_sub", [L, N], True, True),
    ("SELECT * FROM v_weird", [L, N], True, True),
    ("SELECT * FROM mv", [N, L], True, True),
    ("SELECT * FROM v_func", [R, R], True, True),
    ("SELECT n FROM v_count", [N], False, False),
    ("SELECT get_ssn(1)", [R], True, True),
    ("SELECT lower(1)", [R], True, True),
    ("SELECT most_common_vals, tablename FROM pg_stats WHERE tablename = 'customers'", [R, N], True, True),
    ("SELECT stavalues1 FROM pg_statistic", [R], True, True),
    ("SELECT relname FROM pg_class WHERE relname = 'plain'", [N], False, False),
    ("SELECT table_name FROM information_schema.tables", [N], False, False),
    ("COPY customers TO STDOUT", [N, N, L, N, N], True, True),
    ("COPY public.customers (ssn, id) TO STDOUT", [L, N], True, True),
    ("COPY (SELECT id, ssn FROM customers) TO STDOUT", [R, R], True, True),
    ("COPY plain TO STDOUT", [N, N], False, False),
    ("COPY dropped TO STDOUT", [N, R], True, True),
    ("COPY people_1 TO STDOUT", [N, H, N], True, True),
    ("COPY other.customers TO STDOUT", [N, N], True, True),
    ("EXPLAIN SELECT ssn FROM customers", [N], True, True),
    ("EXPLAIN SELECT get_ssn(1)", [R], True, True),
    ("INSERT INTO customers (id) VALUES (2) RETURNING id, ssn, name || ssn", [N, L, R], True, True),
    ("UPDATE customers SET note = 'x' WHERE id = 2 RETURNING *", [N, N, L, N, N, R], True, True),
    ("INSERT INTO plain SELECT 1, name FROM customers", [], False, True),
    ("INSERT INTO plain SELECT 1, ssn FROM customers", [], True, True),
]


def run(cmd, **kw):
    return subprocess.run(cmd, check=True, capture_output=True, text=True, **kw)


@pytest.fixture(scope="module")
def server():
    if not os.path.exists(os.path.join(BUILD, "libtidegate.a")):
        pytest.skip("needs a build")
    pg = harness.Postgres()
    try:
        pg.sql(SCHEMA)
        yield f"host=127.0.0.1 port={pg.port} user=postgres dbname=postgres"
    finally:
        pg.stop()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    binary = str(tmp_path_factory.mktemp("driver") / "catalog_driver")
    flags = run(["pkg-config", "--cflags", "--libs", "libhs", "openssl", "libxxhash", "libpq"]).stdout.split()
    run(["gcc", "-D_GNU_SOURCE", "-I", ROOT + "/include", "-I", ROOT + "/userspace",
         ROOT + "/tests/e2e/catalog_driver.c", BUILD + "/libtidegate.a", "-o", binary,
         "-lpg_query", "-lm"] + flags + [f"-fsanitize={s}" for s in harness.SANITIZERS])
    return binary


def judge(driver, conninfo, lines, rules=RULES):
    done = subprocess.run([driver, conninfo] + rules, input="\n".join(lines) + "\n",
                          capture_output=True, text=True, timeout=20 * harness.SLOW)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def verdicts(driver, server):
    return judge(driver, server, [case[0] for case in CASES])


@pytest.mark.parametrize("index", range(len(CASES)), ids=[c[0][:60] for c in CASES])
def test_plans(verdicts, index):
    _, how, tainted, texts = CASES[index]
    got = verdicts[index]
    assert got["how"] == how
    assert got["tainted"] == tainted
    assert got["texts"] == texts
    assert not got["unresolved"] and not got["stale"]


def test_new_table_is_masked_until_reload(driver, server):
    got = judge(driver, server, [
        "!sql CREATE TABLE fresh (a text, ssn text)",
        "SELECT a FROM fresh",
        "!reload",
        "SELECT a, ssn FROM fresh",
        "!sql DROP TABLE fresh",
    ], ["customers.ssn=last4", "*.ssn=redact"])
    assert got[0]["how"] == [R] and got[0]["unresolved"] and got[0]["stale"]
    assert got[1]["how"] == [N, R] and not got[1]["stale"]


def test_new_table_copied(driver, server):
    lines = [
        "!sql CREATE TABLE fresh (a text, ssn text)",
        "COPY fresh TO STDOUT",
        "COPY public.fresh (a) TO STDOUT",
        "!reload",
        "COPY fresh TO STDOUT",
        "COPY plain TO STDOUT",
        "!sql DROP TABLE fresh",
    ]
    got = judge(driver, server, lines, ["*.ssn=redact"])
    assert got[0]["how"] == [R, R] and got[0]["stale"]
    assert got[1]["how"] == [R] and got[1]["stale"]
    assert got[2]["how"] == [N, R] and not got[2]["stale"]
    assert got[3]["how"] == [N, N] and not got[3]["stale"]


def test_column_added_after_snapshot_is_noticed_by_copy(driver, server):
    got = judge(driver, server, [
        "!sql ALTER TABLE dropped ADD COLUMN late text",
        "COPY dropped TO STDOUT",
        "!reload",
        "COPY dropped TO STDOUT",
        "!sql ALTER TABLE dropped DROP COLUMN late",
    ])
    assert got[0]["how"][2] == R and got[0]["stale"]
    assert got[1]["how"] == [N, R, N]


def test_without_a_catalog(driver, server):
    got = judge(driver, server, [
        "!none",
        "SELECT id, name FROM customers",
        "SELECT 1, now()",
        "SELECT get_ssn(1)",
        "SELECT relname FROM pg_class LIMIT 1",
        "SELECT most_common_vals FROM pg_stats",
        "COPY plain TO STDOUT",
        "SELECT b || 'x' FROM plain",
    ])
    assert [g["how"] for g in got] == [[R, R], [N, N], [R], [N], [R], [R, R], [R]]
    assert all(g["unresolved"] == (g["how"][0] == R) for g in got)


def test_any_schema_and_all_columns(driver, server):
    got = judge(driver, server, [
        "SELECT ssn, x FROM other.customers",
        "COPY customers TO STDOUT",
        "SELECT a, b FROM plain",
        "COPY customers (ssn) TO STDOUT",
        "SELECT ssn FROM orders",
    ], ["customers.ssn=last4", "plain.*=redact"])
    assert [g["how"] for g in got] == [[L, N], [N, N, L, N, N], [R, R], [L], [N]]


def test_strictest_rule_wins(driver, server):
    got = judge(driver, server, ["SELECT ssn FROM customers"],
                ["customers.ssn=last4", "public.*.ssn=hash", "customers.name=null"])
    assert got[0]["how"] == [H]


def test_names_are_quoted(driver, server):
    got = judge(driver, server, [
        "!sql CREATE TABLE \"it's \\ odd\" (\"co'l\" text)",
        "!reload",
        "SELECT * FROM \"it's \\ odd\"",
        "!sql DROP TABLE \"it's \\ odd\"",
    ], ["it's \\ odd.co'l=redact"])
    assert got[0]["how"] == [R]
