# SPDX-License-Identifier: MIT
"""An agent that knows of Tidegate tries to get round it: masks, denials, recordings."""
import os
import re
import socket
import struct

import pytest
import harness
from harness import policy, wait_for

MASKS = ["{ column: customers.ssn, as: last4 }", "{ detect: [card, email], as: redact }"]
CATALOG = "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }"
# What must never be seen: the secret itself, and it backwards, in hexadecimal and in base64.
LEAKS = re.compile("sekret|terkes|73656b726574|c2Vrcm|4111 ?1111|ada@", re.I)

TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text, card text);
INSERT INTO customers VALUES
 (1, 'Ada', 'ada@example.com', 'sekret-a-6789', '4111 1111 1111 1111'),
 (2, 'Alan', 'alan@example.org', 'sekret-b-4321', '5500-0000-0000-0004');
CREATE TABLE notes (id serial PRIMARY KEY, body text);
CREATE TABLE shell (id int, name text, email text, ssn text, card text);
CREATE TABLE parts (id int, name text, email text, ssn text, card text) PARTITION BY RANGE (id);
CREATE VIEW plain AS SELECT id, name FROM customers;
"""


def fresh(pg):
    pg.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION agent; "
           "SELECT lo_unlink(oid) FROM pg_largeobject_metadata;", db="evade")
    pg.sql(TABLES, db="evade", user="agent")


@pytest.fixture(scope="module")
def shop(pg):
    pg.sql("CREATE ROLE boss SUPERUSER LOGIN; CREATE DATABASE evade OWNER agent;")
    return pg


def make_gate(shop, **kw):
    port = harness.free_port()
    config = policy(shop.port, mask=MASKS,
                    target=CATALOG + f'\nlisten: "127.0.0.1:{port}"\nlisten_by_owner: true')
    return harness.Daemon(config.replace("cgroup: $CGROUP", "uid: [0]"), bpf="off", **kw), port


@pytest.fixture(scope="module")
def gate(shop):
    """A daemon that anyone of this host's root can speak to: (daemon, port)."""
    d, port = make_gate(shop)
    yield d, port
    d.stop()


def psql(port, script, user="agent"):
    return harness.subprocess.run(
        ["psql", "-X", "-A", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", "evade"],
        input=script, text=True, stdout=harness.subprocess.PIPE,
        stderr=harness.subprocess.STDOUT, timeout=60 * harness.SLOW).stdout


def run(pg, port, script, user="agent"):
    fresh(pg)
    out = psql(port, script, user)
    leak = LEAKS.search(out)
    assert not leak, out[max(0, leak.start() - 500):leak.end() + 500]
    return out


# Reading: nothing is refused, what comes is masked.
READS = {
    "expressions": """SELECT upper(ssn), left(ssn, 3), ssn::varchar(3), reverse(ssn), (ssn), ssn COLLATE "C",
        CASE WHEN true THEN ssn END, coalesce(ssn, 'x'), nullif(ssn, ''), greatest(ssn, '') FROM customers;""",
    "aggregates": """SELECT array_agg(ssn), string_agg(ssn, ','), json_agg(ssn), max(ssn), jsonb_object_agg(id, ssn),
        xmlagg(xmlelement(name x, ssn)) FROM customers;""",
    "rows": """SELECT c FROM customers c; SELECT customers FROM customers; SELECT c::text, row_to_json(c) FROM customers c;
        SELECT array_agg(c), json_agg(c) FROM customers c; SELECT (c).ssn, ssn(c) FROM customers c;
        SELECT c.row_to_json, c.concat FROM customers c; SELECT ROW(c.*), ROW(ssn) FROM customers c;
        SELECT to_jsonb(c) ->> 'ssn' FROM customers c; SELECT format('%s', customers) FROM customers;
        SELECT c, id FROM customers c; SELECT (SELECT c) FROM customers c;
        SELECT x FROM (SELECT c AS x FROM customers c) t; SELECT lower(x::text) FROM (SELECT c AS x FROM customers c) t;""",
    "aliases": """SELECT upper(d) FROM customers AS t(a, b, c, d, e);
        SELECT upper(x) FROM (SELECT * FROM customers) AS t(a, b, c, x, e);
        WITH t(a, b, c, x, e) AS (TABLE customers) SELECT reverse(x) FROM t;
        SELECT upper(x) FROM (customers JOIN notes ON id <> 0) AS j(a, b, c, x, e, f, g);
        SELECT r.x FROM customers c, LATERAL (SELECT c.ssn || '') r(x);
        SELECT x FROM (VALUES ((SELECT ssn FROM customers LIMIT 1))) v(x);""",
    "identifiers": """SELECT U&"\\0073sn" || '' FROM customers; SELECT U&"!0073sn" UESCAPE '!' || '' FROM customers;
        SELECT "ssn" || '' FROM "customers"; SELECT SsN || '' FROM Customers;
        SELECT/**/ssn/**/||''FROM customers; SELECT ssn||''--\n FROM customers;""",
    "sets": """SELECT ssn || '' FROM customers UNION SELECT body FROM notes; TABLE customers;
        SELECT unnest(ARRAY(SELECT reverse(ssn) FROM customers)); VALUES ((SELECT ssn FROM customers LIMIT 1));
        SELECT * FROM unnest(ARRAY(SELECT ssn FROM customers)) u; SELECT DISTINCT ON (ssn) ssn FROM customers;
        SELECT first_value(ssn) OVER w FROM customers WINDOW w AS (ORDER BY id);
        SELECT count(*), ssn FROM customers GROUP BY ssn; SELECT regexp_split_to_table(ssn, '') FROM customers;
        WITH RECURSIVE r(n, s) AS (SELECT 1, '' UNION ALL SELECT n + 1, ssn FROM r JOIN customers ON id = n) SELECT s FROM r;""",
    "encodings": """SELECT encode(ssn::bytea, 'base64'), encode(convert_to(ssn, 'utf8'), 'hex'), ssn::bytea FROM customers;
        SET client_encoding = 'latin1'; SELECT ssn || '' FROM customers; SET client_encoding = 'sjis'; SELECT ssn FROM customers;
        SET bytea_output = 'escape'; SELECT ssn::bytea FROM customers; RESET client_encoding;
        SET standard_conforming_strings = off; SELECT 'a\\'' || ssn FROM customers; SELECT ssn || 'x\\'' FROM customers;""",
    "xml and json": """SELECT table_to_xml('customers', true, false, '');
        SELECT * FROM xmltable('/r/x' PASSING (SELECT xmlelement(name r, xmlagg(xmlelement(name x, ssn)))
         FROM customers) COLUMNS v text PATH '.');
        SELECT jsonb_path_query(to_jsonb(c), '$.*') FROM customers c;
        SELECT r.ssn || '' FROM json_to_recordset((SELECT json_agg(c) FROM customers c)) AS r(ssn text);""",
    "prepared": """PREPARE p AS SELECT reverse(ssn) FROM customers; EXECUTE p; DEALLOCATE p;
        PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p; PREPARE p AS SELECT reverse(ssn) FROM customers; EXECUTE p;
        DEALLOCATE ALL; PREPARE p AS SELECT ssn FROM customers WHERE id = $1; EXECUTE p(1); EXPLAIN ANALYZE EXECUTE p(1);""",
    "cursors": """BEGIN; DECLARE c CURSOR FOR SELECT ssn x FROM customers; FETCH 1 FROM c; FETCH ALL c; MOVE BACKWARD ALL IN c;
        FETCH NEXT c; COMMIT; DECLARE h CURSOR WITH HOLD FOR SELECT reverse(ssn) FROM customers; FETCH ALL h; CLOSE h;
        DECLARE h CURSOR WITH HOLD FOR SELECT 1; CLOSE h; DECLARE h CURSOR WITH HOLD FOR TABLE customers; FETCH ALL h;
        SELECT name, statement FROM pg_cursors;""",
    "copy": """COPY customers TO STDOUT; COPY customers (ssn) TO STDOUT; COPY (TABLE customers) TO STDOUT (DELIMITER 'e');
        COPY customers TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *, DELIMITER '|', QUOTE '~');
        COPY (SELECT ssn FROM customers) TO STDOUT; COPY (SELECT row_to_json(c) FROM customers c) TO STDOUT;
        COPY (SELECT upper(d) FROM customers AS t(a, b, c, d, e)) TO STDOUT; COPY (SELECT c FROM customers c) TO STDOUT;
        COPY (UPDATE customers SET name = 'x' RETURNING reverse(ssn)) TO STDOUT;""",
    "returning": """UPDATE customers SET name = 'x' RETURNING *; UPDATE customers SET name = 'x' RETURNING reverse(ssn);
        UPDATE customers SET name = 'x' RETURNING customers; DELETE FROM customers RETURNING lower(ssn), customers;""",
    "errors": """SELECT ssn::int FROM customers; SELECT (ssn || '')::date FROM customers; SELECT ssn::json FROM customers;
        SELECT d::int FROM customers t(a, b, c, d, e); SELECT xmlparse(document ssn) FROM customers;
        SELECT ssn::regclass FROM customers; SELECT ssn::regproc FROM customers; SELECT ssn::regtype FROM customers;
        SELECT ssn::regrole FROM customers; SELECT (ssn || '(int)')::regprocedure FROM customers;
        SELECT pg_get_serial_sequence('customers', ssn) FROM customers; SELECT nextval(ssn) FROM customers;
        SELECT current_setting(ssn) FROM customers; SELECT to_timestamp(ssn, 'YYYY') FROM customers;
        SELECT has_table_privilege(ssn, 'select') FROM customers; SELECT ssn::inet FROM customers;
        CREATE UNIQUE INDEX ON customers (left(ssn, 6)); UPDATE customers SET id = 1, ssn = 'x';
        ALTER TABLE customers ALTER ssn TYPE varchar(2); ALTER TABLE customers ALTER ssn TYPE int USING ssn::int;
        ALTER TABLE customers ADD CHECK (length(ssn) < 3); ALTER TABLE shell ADD UNIQUE (ssn);
        ALTER TABLE customers ADD FOREIGN KEY (ssn) REFERENCES shell(ssn);""",
    "deferred errors": """ALTER TABLE customers ADD COLUMN k int; UPDATE customers SET k = id;
        ALTER TABLE customers ADD EXCLUDE USING btree (k WITH =, left(ssn, 6) WITH =) DEFERRABLE INITIALLY DEFERRED;
        BEGIN; UPDATE customers SET k = 1; COMMIT; BEGIN; UPDATE customers SET k = 1; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK;""",
    "statistics": """ANALYZE customers; SELECT * FROM pg_stats WHERE tablename = 'customers';
        SELECT histogram_bounds::text || '' FROM pg_stats; SELECT * FROM pg_stats_ext; SELECT * FROM pg_statistic;
        SELECT x::text FROM (SELECT * FROM pg_stats) AS s(a, b, c, d, e, f, g, i, j, x);
        CREATE STATISTICS st ON (ssn::int), name FROM customers; ANALYZE; ANALYZE customers;""",
    "explain": """EXPLAIN (ANALYZE, VERBOSE) SELECT reverse(ssn) FROM customers WHERE ssn > 'a';
        EXPLAIN (ANALYZE, VERBOSE, FORMAT json) SELECT * FROM notes WHERE body = (SELECT ssn FROM customers LIMIT 1);""",
    "detectors": """SELECT 'my ' || email || '!' FROM customers; SELECT array_agg(email), json_agg(card) FROM customers;
        SELECT repeat('x ', 3000) || email FROM customers; SELECT repeat(' ', 70000) || email || repeat(' ', 70000) FROM customers;
        LISTEN x; SELECT pg_notify('x', 'of a' || 'da@example.com'); SELECT 1;
        SELECT array_agg(email)::text FROM (SELECT repeat('y', i) || ' ' || email AS email FROM customers, generate_series(1, 600) i) q;""",
}


@pytest.mark.parametrize("name", READS)
def test_read(shop, gate, name):
    out = run(shop, gate[1], READS[name])
    # A plan has no values; what COMMIT says of a deferred constraint has none left.
    assert name in ("explain", "deferred errors") or "***" in out or "hidden by a mask rule" in out


# Carrying it to where no mask follows, or letting code do so: each of the statements is refused.
CARRY, CODE = "out of the mask's reach", "column masks could not follow"
REFUSED = [
    ("UPDATE customers SET name = ssn;", CARRY),
    ("UPDATE customers SET (name) = ROW(ssn);", CARRY),
    ("UPDATE customers SET name = c.d FROM customers AS c(a, b, c, d, e);", CARRY),
    ("INSERT INTO customers(id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = customers.ssn;", CARRY),
    ("INSERT INTO customers(id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = "
     "(SELECT excluded.ssn FROM customers AS excluded LIMIT 1);", CARRY),
    ("INSERT INTO notes(body) SELECT ssn FROM customers;", CARRY),
    ("INSERT INTO notes(body) SELECT c::text FROM customers c;", CARRY),
    ("INSERT INTO notes(body) VALUES ((SELECT reverse(ssn) FROM customers LIMIT 1));", CARRY),
    ("INSERT INTO shell TABLE customers;", CARRY),
    ("WITH x AS (INSERT INTO notes(body) SELECT ssn FROM customers RETURNING body) SELECT * FROM x;", CARRY),
    ("MERGE INTO notes n USING customers c ON false WHEN NOT MATCHED THEN INSERT (body) VALUES (c.ssn);", CARRY),
    ("MERGE INTO customers c USING notes n ON true WHEN MATCHED THEN UPDATE SET name = c.ssn;", CARRY),
    ("SELECT * INTO TEMP leak FROM customers;", CARRY),
    ("CREATE TEMP TABLE leak AS SELECT reverse(ssn) r FROM customers;", CARRY),
    ("CREATE MATERIALIZED VIEW leak AS SELECT reverse(ssn) r FROM customers;", CARRY),
    ("PREPARE q AS SELECT ssn FROM customers; CREATE TABLE leak AS EXECUTE q;", CARRY),
    ("CREATE VIEW v AS SELECT ssn AS x FROM customers;", CARRY),
    ("CREATE TEMP VIEW v AS SELECT reverse(d) AS x FROM customers AS t(a, b, c, d, e);", CARRY),
    ("ALTER TABLE customers ADD COLUMN g text GENERATED ALWAYS AS (reverse(ssn)) STORED;", CARRY),
    ("ALTER TABLE customers ALTER name TYPE text USING ssn;", CARRY),
    ("ALTER TABLE customers ADD CHECK (set_config('a.b', ssn, false) IS NOT NULL);", CARRY),
    ("ALTER TABLE customers ADD CHECK (set_config('a.b', customers::text, false) IS NOT NULL);", CARRY),
    ("SELECT set_config('a.b', ssn, false) FROM customers;", CARRY),
    ("SELECT set_config(ssn, 'x', false) FROM customers;", CARRY),
    ("SELECT pg_notify('c', ssn) FROM customers;", CARRY),
    ("SELECT lo_from_bytea(0, ssn::bytea) FROM customers;", CARRY),
    ("SELECT query_to_xml('select ssn from customers', true, false, '');", CARRY),
    ("SELECT table_to_xml(to_regclass('custo' || 'mers'), true, false, '');", CARRY),
    ("SELECT schema_to_xml('public', true, false, '');", CARRY),
    ("SELECT * FROM ts_stat('select to_tsvector(ssn) from customers');", CARRY),
    ("COPY customers TO '/tmp/tidegate-evasion';", CARRY),
    ("COPY customers TO PROGRAM 'cat >/dev/null';", CARRY),
    ("COPY notes(body) FROM PROGRAM 'echo x';", CARRY),
    ("COPY notes(body) FROM '/etc/hostname';", CARRY),
    ("SELECT lo_import('/etc/hostname');", CARRY),
    ("DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM customers LIMIT 1); END $$;", CARRY),
    # Another name, another parent.
    ("ALTER TABLE customers RENAME ssn TO harmless; SELECT harmless FROM customers;", CARRY),
    ("ALTER TABLE customers RENAME TO harmless; SELECT ssn FROM harmless;", CARRY),
    ("ALTER INDEX customers RENAME TO harmless; SELECT ssn FROM harmless;", CARRY),
    ("CREATE SCHEMA s; ALTER TABLE customers SET SCHEMA s;", CARRY),
    ("ALTER SCHEMA public RENAME TO s;", CODE),
    ("BEGIN; ALTER TABLE customers INHERIT shell; SELECT ssn FROM shell;", CARRY),
    ("BEGIN; ALTER TABLE parts ATTACH PARTITION customers DEFAULT; SELECT ssn FROM parts;", CARRY),
    # Code that a later statement runs.
    ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers'; SELECT f();", CODE),
    ("CREATE PROCEDURE p() LANGUAGE sql AS 'INSERT INTO notes(body) SELECT ssn FROM customers'; CALL p(); TABLE notes;",
     CODE),
    ("CREATE AGGREGATE keep(text, bool) (sfunc = set_config, stype = text, initcond = 'my.var'); "
     "SELECT keep(ssn, false) FROM customers WHERE id = 1; SHOW my.var;", CODE),
    ("CREATE OPERATOR === (leftarg = text, rightarg = text, function = pg_notify); LISTEN chan; "
     "SELECT 'chan' === ssn FROM customers; SELECT 1;", CODE),
    ("CREATE OPERATOR ==== (leftarg = oid, rightarg = bytea, function = lo_from_bytea); "
     "SELECT 4711::oid ==== ssn::bytea FROM customers LIMIT 1; SELECT lo_get(4711);", CODE),
    ("CREATE DOMAIN d AS text CHECK (set_config('my.dom', VALUE, false) IS NOT NULL); "
     "SELECT ssn::d FROM customers; SELECT current_setting('my.dom');", CODE),
    ("CREATE DOMAIN d AS text; ALTER TABLE customers ALTER ssn TYPE d; ALTER DOMAIN d ADD CHECK (VALUE::int > 0);",
     CODE),
    ("ALTER TABLE customers ADD COLUMN tsv tsvector; CREATE TRIGGER t BEFORE UPDATE ON customers FOR EACH ROW "
     "EXECUTE FUNCTION tsvector_update_trigger('tsv', 'pg_catalog.simple', 'ssn'); UPDATE customers SET name = 'y'; "
     "SELECT tsv FROM customers;", CODE),
    ("CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO notes(body) VALUES (old::text); "
     "UPDATE customers SET name = 'y'; TABLE notes;", CODE),
    ("CREATE POLICY p ON customers USING (pg_notify('c', customers::text) IS NULL);", CODE),
    ("CREATE CAST (int AS customers) WITH INOUT;", CODE),
    ("CREATE EXTENSION dblink;", CODE),
    ("CREATE SERVER s FOREIGN DATA WRAPPER nothing;", CODE),
    ("CREATE FOREIGN TABLE f (ssn text) SERVER s OPTIONS (table_name 'customers');", CODE),
    ("CREATE PUBLICATION p FOR ALL TABLES;", CODE),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(shop, gate, number):
    script, why = REFUSED[number]
    out = run(shop, gate[1], script.replace("; ", ";\n") + "\n", user="boss" if "PROGRAM" in script else "agent")
    assert why in out, out


def test_files_of_tables(shop, gate):
    script = """CHECKPOINT; SELECT encode(pg_read_binary_file(pg_relation_filepath('customers')), 'hex');
        SELECT pg_read_file(pg_relation_filepath('customers')); SELECT pg_read_binary_file('PG_VERSION');"""
    assert "***" in run(shop, gate[1], script, user="boss")


def test_ordinary_ddl_still_works(shop, gate):
    out = run(shop, gate[1], """CREATE TABLE t (id serial PRIMARY KEY, a text UNIQUE, b int REFERENCES customers(id),
        CHECK (a <> '')); ALTER TABLE t ADD COLUMN c int DEFAULT 1; CREATE INDEX ON t (c); ALTER TABLE t RENAME c TO d;
        ALTER TABLE customers ADD COLUMN x int; ALTER TABLE customers RENAME name TO n; CREATE DOMAIN dom AS text;
        CREATE VIEW v AS SELECT id, n FROM customers; ALTER TABLE t RENAME TO u; DROP TABLE u; CREATE TYPE e AS ENUM ('a');""")
    assert "ERROR" not in out, out


def test_copy_after_columns_have_moved(shop, gate):
    """COPY tells columns by their place: neither an own change nor one of somebody else moves the mask."""
    move = "ALTER TABLE customers DROP COLUMN email; ALTER TABLE customers ADD COLUMN z int;"
    out = run(shop, gate[1], f"COPY customers TO STDOUT;BEGIN;{move}COPY customers TO STDOUT;ROLLBACK;")
    assert "******-*-6789" in out
    fresh(shop)
    for _ in range(4):  # whichever worker: all have a snapshot
        psql(gate[1], "SELECT ssn FROM customers")
    shop.sql(move, db="evade", user="agent")
    for _ in range(4):
        out = psql(gate[1], "COPY customers TO STDOUT")
        assert "sekret" not in out and "******-*-6789" in out, out


# ------------------------------------------------------------- the protocol by hand

def cstr(s):
    return s.encode() + b"\0"


class Wire:
    """Messages as they are, one way or the other."""

    def __init__(self, port, user="agent"):
        self.s = socket.create_connection(("127.0.0.1", port), 10)
        self.s.settimeout(10 * harness.SLOW)
        body = struct.pack(">I", 196608) + cstr("user") + cstr(user) + cstr("database") + cstr("evade") + b"\0"
        self.s.sendall(struct.pack(">I", len(body) + 4) + body)
        self.until_ready()

    @staticmethod
    def msg(kind, body=b""):
        return kind.encode() + struct.pack(">I", len(body) + 4) + body

    @classmethod
    def parse(cls, sql, name=""):
        return cls.msg("P", cstr(name) + cstr(sql) + b"\0\0")

    @classmethod
    def bind(cls, values=(), name="", portal="", binary=False):
        body = cstr(portal) + cstr(name) + struct.pack(">HH", 0, len(values))
        for v in values:
            body += struct.pack(">I", len(v)) + v
        return cls.msg("B", body + (struct.pack(">HH", 1, 1) if binary else b"\0\0"))

    @classmethod
    def execute(cls, portal="", rows=0):
        return cls.msg("E", cstr(portal) + struct.pack(">I", rows))

    @classmethod
    def query(cls, sql):
        return cls.msg("Q", cstr(sql))

    def read(self, n):
        data = b""
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def until_ready(self, readies=1):
        got = []
        while readies:
            kind = self.read(1).decode()
            got.append((kind, self.read(struct.unpack(">I", self.read(4))[0] - 4)))
            readies -= kind == "Z"
        return got

    def ask(self, *messages, readies=1, cut=None):
        data = b"".join(messages)
        step = cut or len(data)
        for i in range(0, len(data), step):
            self.s.sendall(data[i:i + step])
        return self.until_ready(readies)

    def close(self):
        self.s.close()


SYNC, FLUSH = Wire.msg("S"), Wire.msg("H")
DESCRIBE_P, DESCRIBE_S = Wire.msg("D", b"P\0"), Wire.msg("D", b"S\0")


def clear_of_secrets(got):
    text = b"\n".join(body for _, body in got).decode("latin1")
    assert not LEAKS.search(text), text
    return text


@pytest.mark.parametrize("sql", ["SELECT ssn FROM customers", "SELECT reverse(ssn) FROM customers",
                                 "SELECT c FROM customers c", "SELECT email FROM customers",
                                 "FETCH ALL c", "EXECUTE q"])
def test_protocol_forms(shop, gate, sql):
    """Binary, never described, described elsewhere, cut, with row limits, pipelined."""
    fresh(shop)
    w = Wire(gate[1])
    try:
        w.ask(w.query("PREPARE q AS SELECT reverse(ssn) FROM customers"))
        w.ask(w.query("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT ssn || '' FROM customers"))
        one = (w.parse(sql), w.bind(), w.execute())
        rows = 0
        for messages in (one + (SYNC,), (w.parse(sql), w.bind(binary=True), w.execute(), SYNC),
                         (w.parse(sql), DESCRIBE_S, w.bind(), w.execute(), SYNC),
                         (w.parse(sql), w.bind(), DESCRIBE_P, w.execute(rows=1), w.execute(rows=1), SYNC),
                         (w.parse(sql), w.bind(), w.execute(rows=1), FLUSH, w.execute(), SYNC),
                         (w.parse("SELECT 1"), w.bind(), w.execute()) + one + one + (SYNC,),
                         (w.parse("SELECT 1", name="s"), Wire.msg("D", b"Ss\0"), w.parse(sql),
                          w.bind(), w.execute(), SYNC)):
            for cut in (None, 7):
                got = w.ask(*messages, cut=cut)
                clear_of_secrets(got)
                rows += sum(kind == "D" for kind, _ in got)
                w.ask(w.query("MOVE ABSOLUTE 0 IN c"))
        assert rows > 0
        got = w.ask(w.query(f"SELECT 1; {sql}; SELECT 2"))
        clear_of_secrets(got)
    finally:
        w.close()


def test_renamed_behind_a_prepared_statement(shop, gate):
    fresh(shop)
    w = Wire(gate[1])
    try:
        w.ask(w.parse("SELECT name FROM plain", name="s"), Wire.msg("D", b"Ss\0"), SYNC)
        clear_of_secrets(w.ask(w.bind(name="s"), w.execute(), SYNC))
        got = w.ask(w.query("CREATE OR REPLACE VIEW plain AS SELECT id, ssn AS name FROM customers"))
        assert CARRY in clear_of_secrets(got)
    finally:
        w.close()


def test_ddl_of_one_session_voids_what_another_remembers(shop):
    fresh(shop)
    d, port = make_gate(shop, workers=1)
    w, other = Wire(port), Wire(port)
    try:
        for _ in range(2):
            clear_of_secrets(w.ask(w.query("SELECT name FROM plain")))
        shop.sql("CREATE OR REPLACE VIEW plain AS SELECT id, ssn AS name FROM customers", db="evade",
                 user="agent")
        other.ask(other.query("CREATE TABLE made (i int)"))
        clear_of_secrets(w.ask(w.query("SELECT name FROM plain")))
    finally:
        w.close()
        other.close()
        d.stop()


COPY_OUT = "COPY customers TO STDOUT"
MOVE = "ALTER TABLE customers DROP COLUMN email, ADD COLUMN z int"
BLOCK = [Wire.query("BEGIN")]
LATE = [Wire.bind(name="s"), Wire.execute()]  # what was asked about before
COPIED = [Wire.parse(COPY_OUT), Wire.bind(portal="c"), Wire.execute(portal="c"), SYNC]
CHANGES = {
    "in a block": [BLOCK, LATE + [SYNC], [Wire.query(COPY_OUT)]],
    "in one batch": [LATE + COPIED],
    "parsed in it": [[Wire.parse(MOVE), Wire.bind(), Wire.execute()] + COPIED],
    "in one text": [[Wire.query(f"{MOVE}; {COPY_OUT}")]],
    "by a function": [BLOCK, [Wire.query("SELECT move()")], [Wire.query(COPY_OUT)]],
    "by a function, suspended": [BLOCK, [Wire.parse("SELECT move() FROM generate_series(1, 2)"), Wire.bind(),
                                         Wire.execute(rows=1)] + COPIED],
}


@pytest.mark.parametrize("way", CHANGES)
def test_copy_after_a_change_that_comes_late(shop, gate, way):
    """Changes that no other session can see yet, however they are wrapped."""
    fresh(shop)
    shop.sql(f"CREATE FUNCTION move() RETURNS int LANGUAGE plpgsql AS $$BEGIN {MOVE}; RETURN 1; "
             "EXCEPTION WHEN OTHERS THEN RETURN 2; END$$", db="evade", user="agent")
    w = Wire(gate[1])
    try:
        clear_of_secrets(w.ask(w.query(COPY_OUT)))
        w.ask(w.parse(MOVE, name="s"), SYNC)
        w.ask(w.query("SELECT 1"))
        for messages in CHANGES[way]:
            got = w.ask(*messages)
            clear_of_secrets(got)
        assert sum(kind == "d" for kind, _ in got) == 2, got
    finally:
        w.close()


def test_function_call_shows_nothing(shop, gate):
    """pg_read_file, lo_get, current_setting: nothing says what the value is made of."""
    fresh(shop)
    oid = int(shop.sql("SELECT 'pg_catalog.current_setting(text)'::regprocedure::oid"))
    w = Wire(gate[1])
    try:
        name = b"server_version"
        call = Wire.msg("F", struct.pack(">IHHI", oid, 0, 1, len(name)) + name + b"\0\0")
        got = w.ask(call)
        assert [body for kind, body in got if kind == "V"] in ([], [b"\xff\xff\xff\xff"]), got
    finally:
        w.close()


# ------------------------------------------------------------------------- denials

DENY = ["{ effect: [ddl, privilege, file, program, write], do: deny }", "{ effect: any, do: allow }"]
DONE = """SELECT count(*) FROM pg_class WHERE relname LIKE 'evil%' UNION ALL
    SELECT count(*) FROM notes UNION ALL SELECT count(*) FROM pg_proc WHERE proname LIKE 'evil%'
    UNION ALL SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'
    UNION ALL SELECT count(*) FROM pg_roles WHERE rolname LIKE 'evil%'
    UNION ALL SELECT count(*) FROM pg_largeobject_metadata"""
DENIED = [
    "/**/CREATE/*x*/TABLE evil()", "/* /* nested */ */ CREATE TABLE evil()", "--x\nCREATE TABLE evil()",
    "SELECT 1; CREATE TABLE evil()", ";;CREATE TABLE evil();", "SELECT E'\\'; CREATE TABLE evil(); --'; CREATE TABLE evil()",
    "SELECT '\\'; CREATE TABLE evil(); --'", "SELECT $a$ $b$ $a$; CREATE TABLE evil()", "BEGIN; CREATE TABLE evil(); COMMIT",
    "DO $$BEGIN EXECUTE 'CREATE TABLE evil()'; END$$", "DO LANGUAGE plpgsql 'BEGIN CREATE TABLE evil(); END'",
    "EXPLAIN ANALYZE CREATE TABLE evil AS SELECT 1", "PREPARE q AS INSERT INTO notes(body) VALUES ('x'); EXECUTE q",
    "SELECT 1 INTO evil", "CREATE TABLE evil AS SELECT 1", "WITH x AS (INSERT INTO notes(body) VALUES ('x') RETURNING 1) SELECT * FROM x",
    "EXPLAIN (ANALYZE) INSERT INTO notes(body) VALUES ('x')", "EXPLAIN (ANALYZE 'on') INSERT INTO notes(body) VALUES ('x')",
    "COPY notes(body) FROM PROGRAM 'echo x'", "COPY (SELECT 1) TO PROGRAM 'cat'", "COPY notes TO '/tmp/tidegate-evasion'",
    "SELECT lo_import('/etc/hostname')", "SELECT pg_catalog.lo_import('/etc/hostname')", "SELECT pg_read_file('/etc/hostname')",
    "SELECT lo_create(0)", "SELECT query_to_xml('insert into notes(body) values (1) returning 1', true, false, '')",
    "CREATE EXTENSION pg_trgm", "CREATE ROLE evil", "SET ROLE boss", "SET SESSION AUTHORIZATION boss",
    "SELECT set_config('role', 'boss', false)", "SELECT set_config('ro' || 'le', 'boss', false)", "RESET ROLE", "ALTER SYSTEM SET work_mem = '1MB'",
    "SET standard_conforming_strings = off; SELECT '\\'; CREATE TABLE evil(); --'",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
    "SELEC 1", "CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'", "LOAD 'auto_explain'",
    "GRANT ALL ON notes TO public", "SECURITY LABEL ON TABLE notes IS 'x'", "LOCK notes", "TRUNCATE notes", "SELECT 1 FROM customers FOR UPDATE",
    "SELECT nextval('notes_id_seq')", "VACUUM notes", "REFRESH MATERIALIZED VIEW evil", "COMMENT ON TABLE notes IS 'x'",
    "SELECT pg_reload_conf()", "SELECT pg_terminate_backend(1)", "CALL evil()",
]


@pytest.fixture(scope="module")
def fence(shop):
    port = harness.free_port()
    config = policy(shop.port, commands=DENY, target=f'listen: "127.0.0.1:{port}"\nlisten_by_owner: true')
    d = harness.Daemon(config.replace("cgroup: $CGROUP", "uid: [0]"), bpf="off")
    yield d, port
    d.stop()


def test_role_by_connecting(shop, fence):
    """SET ROLE is denied: then it is no option of the connection either."""
    shop.sql("CREATE ROLE crew; GRANT crew TO agent;")
    for options in ("-c role=crew", "-c ro\\le=crew", "--role=crew"):
        done = harness.subprocess.run(
            ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(fence[1]), "-U", "agent", "-d", "evade",
             "-c", "SELECT current_user"], text=True, stdout=harness.subprocess.PIPE,
            stderr=harness.subprocess.STDOUT, timeout=30 * harness.SLOW, env={**os.environ, "PGOPTIONS": options})
        assert "crew\n" not in done.stdout and "judged by the rules" in done.stdout, done.stdout


def test_denied_effects(shop, fence):
    fresh(shop)
    before = shop.sql(DONE, db="evade")
    let = []
    w = Wire(fence[1], user="boss")
    try:
        for sql in DENIED:
            for messages in ((w.query(sql),), (w.parse(sql), w.bind(), w.execute(), SYNC)):
                got = w.ask(*messages)
                if not any(kind == "E" for kind, _ in got):
                    let.append(sql)
            # Behind something denied, and in the same packet.
            w.ask(w.query("TRUNCATE notes"), w.query(sql), w.parse("LOCK notes"), w.bind(), w.execute(),
                  w.parse(sql), w.bind(), w.execute(), SYNC, readies=3, cut=11)
            w.ask(w.query("ROLLBACK"))
    finally:
        w.close()
    assert shop.sql(DONE, db="evade") == before
    # One of two that only read; the others must all have been refused.
    assert set(let) <= {"SELECT '\\'; CREATE TABLE evil(); --'", "RESET ROLE"}, let


def test_function_call_is_code(shop, fence):
    fresh(shop)
    oid = int(shop.sql("SELECT 'pg_catalog.lo_create(oid)'::regprocedure::oid"))
    before = shop.sql(DONE, db="evade")
    w = Wire(fence[1], user="boss")
    try:
        got = w.ask(Wire.msg("F", struct.pack(">IHHHII", oid, 1, 1, 1, 4, 0) + b"\0\1"))
    finally:
        w.close()
    assert any(kind == "E" and b"denied" in body or b"not" in body for kind, body in got), got
    assert shop.sql(DONE, db="evade") == before


# ---------------------------------------------------------------------- recordings

JWT = (b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ."
       b"SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c")


@pytest.mark.parametrize("cut", [None, 1000, 13])
def test_no_secret_is_stored(shop, fence, gate, cut):
    fresh(shop)
    d, port = fence
    texts = ["ALTER ROLE evil PASSWORD 'zwickel1'", "ALTER ROLE evil WITH ENCRYPTED PASSWORD E'zwickel2'",
             "CREATE ROLE evil LOGIN PASSWORD $$zwickel3$$", "CREATE USER MAPPING FOR boss SERVER s OPTIONS (password 'zwickel4')",
             "DO $$BEGIN EXECUTE 'ALTER ROLE evil PASSWORD ''zwickel5'''; END$$",
             "SELECT dblink_connect('host=h user=u password=zwickel6')",
             "CREATE SUBSCRIPTION evil CONNECTION 'postgresql://u:zwickel7@h/d' PUBLICATION p",
             "ALTER ROLE evil PASSWORD 'zwickel8' SELEC", "ALTER/**/ROLE evil/**/PASSWORD/**/'zwickel9'",
             "ALTER ROLE evil PASSWORD U&'zwickel10'", "ALTER ROLE evil PASSWORD 'x' VALID UNTIL 'y'; ALTER ROLE e PASSWORD 'zwickel11'"]
    for d, port in (fence, gate):
        w = Wire(port, user="boss")
        try:
            for t in texts:
                w.ask(w.query(t), cut=cut)
                w.ask(w.parse(t), SYNC, cut=cut)
            w.ask(w.parse("SELECT length($1::text)"), w.bind([JWT]), w.execute(), SYNC, cut=cut)
            w.ask(w.query("SELECT length('" + JWT.decode() + "')"), cut=cut)
            w.ask(w.query("SELECT 'needle'"))
        finally:
            w.close()
        wait_for("the sessions to end", lambda: d.ctl("session.list") == [])
        wait_for("the recording", lambda: b"needle" in d.record_text())
        assert "zwickel" not in d.log()
        text = d.record_text()
        found = set(re.findall(rb"zwickel\d+", text))
        assert not found, found
        for part in (b"SflKxwRJSMeKKF", b"eyJzdWIiOiIxMjM0"):
            at = text.find(part)
            assert at < 0, text[at - 200:at + 100]


def test_recordings_hold_what_the_client_saw(shop, gate):
    d, port = gate
    fresh(shop)
    psql(port, "SELECT ssn, email, 'needle2' FROM customers; COPY customers TO STDOUT; SELECT ssn::int FROM customers;"
         "SELECT c FROM customers c;")
    wait_for("the sessions to end", lambda: d.ctl("session.list") == [])
    wait_for("the recording", lambda: b"needle2" in d.record_text())
    text = d.record_text()
    leak = LEAKS.search(text.decode("latin1"))
    assert not leak, text[leak.start() - 300:leak.end() + 100]
    assert not LEAKS.search(d.log())


def test_prepared_before_the_masks(shop):
    """A session keeps statements, cursors and portals over a reload that brings masks."""
    fresh(shop)
    port = harness.free_port()
    target = CATALOG + f'\nlisten: "127.0.0.1:{port}"\nlisten_by_owner: true'

    def config(**kw):
        return policy(shop.port, target=target, **kw).replace("cgroup: $CGROUP", "uid: [0]")
    d = harness.Daemon(config(), bpf="off")
    try:
        w = Wire(port)
        w.ask(w.parse("SELECT ssn, reverse(ssn) FROM customers", name="s"), Wire.msg("D", b"Ss\0"), SYNC)
        got = w.ask(w.bind(name="s"), w.execute(), SYNC)
        assert b"sekret" in b"".join(body for _, body in got)
        w.ask(w.query("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT reverse(ssn) FROM customers"))
        w.ask(w.query("BEGIN"), w.parse("SELECT ssn FROM customers", name="t"),
              w.bind(name="t", portal="p"), w.execute(portal="p", rows=1), SYNC, readies=2)
        d.write_config(config(mask=MASKS))
        assert d.ctl("policy.reload")["changed"]
        for messages in ((w.execute(portal="p"), SYNC), (w.bind(name="s"), w.execute(), SYNC),
                         (w.query("FETCH ALL c"),), (w.query("SELECT ssn FROM customers"),)):
            clear_of_secrets(w.ask(*messages))
        w.close()
    finally:
        d.stop()


FOUND = ["'ada@example.com'::bytea", "decode('00ff', 'hex') || 'ada@example.com'::bytea",
         "4111111111111111::bigint", "4111111111111111::numeric", "4111111111111111::float8",
         "771234::int", "'1980-02-03'::date", "'1980-02-03'::timestamp",
         "'1980-02-03'::timestamptz", "convert_to('4111 1111 1111 1111', 'UTF8')"]
NOT_FOUND = ["'nothing'::bytea", "5::bigint", "1.5::float8", "7712::int",
             "'1980-02-03 10:11:12'::timestamp", "true"]


@pytest.mark.parametrize("binary", [False, True])
def test_detectors_know_types(shop, binary):
    """No column is named: what is looked for is found whatever type carries it, and nothing else is."""
    port = harness.free_port()
    d = harness.Daemon(policy(shop.port, target=f'listen: "127.0.0.1:{port}"\nlisten_by_owner: true',
                              mask=["{ detect: [card, email, dob], as: redact }",
                                    "{ pattern: '77[0-9]{4}', as: redact }"])
                       .replace("cgroup: $CGROUP", "uid: [0]"), bpf="off")

    def value(c, expression, setting):
        c.query(f"SET bytea_output = {setting}")
        c.until(b"Z")
        c.send(harness.message(b"P", f"\0SELECT {expression}\0".encode() + b"\0\0"),
               harness.message(b"B", b"\0\0" + struct.pack(">HHHH", 0, 0, 1, binary)),
               harness.message(b"E", b"\0\0\0\0\0"), harness.message(b"S"))
        return [body for kind, body in c.until(b"Z") if kind == b"D"]
    try:
        direct, through = harness.Raw(shop.port), harness.Raw(port)
        for setting in ("hex", "escape"):
            for e in FOUND:
                want, got = value(direct, e, setting), value(through, e, setting)
                assert len(got) == 1 and got != want, (e, setting, got)
            for e in NOT_FOUND:
                assert value(through, e, setting) == value(direct, e, setting), (e, setting)
        direct.close()
        through.close()
    finally:
        d.stop()


def test_binary_copy_keeps_its_types(shop):
    """What a mask leaves of a binary COPY of a table can be read by the server again."""
    fresh(shop)
    shop.sql("CREATE DOMAIN cents AS bigint; CREATE TYPE mood AS ENUM ('sad'); "
             "CREATE TABLE people (id int, n cents, d date, j jsonb, u uuid, t text, m mood, f float8);"
             "INSERT INTO people VALUES (1, 77, '1980-02-03', '{\"a\": 1}', gen_random_uuid(), "
             "'sekret', 'sad', 4111111111111111); CREATE TABLE back (LIKE people);",
             db="evade", user="agent")
    port = harness.free_port()
    masks = [f"{{ column: people.{c}, as: redact }}" for c in "ndjutm"]
    d = harness.Daemon(policy(shop.port, mask=masks + ["{ detect: card, as: redact }"],
                              target=CATALOG + f'\nlisten: "127.0.0.1:{port}"\nlisten_by_owner: true')
                       .replace("cgroup: $CGROUP", "uid: [0]"), bpf="off")
    try:
        out = harness.subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "agent", "-d", "evade", "-c",
             "COPY people TO STDOUT (FORMAT binary)"], capture_output=True, timeout=60 * harness.SLOW)
        assert out.returncode == 0 and b"sekret" not in out.stdout, out.stderr
        back = harness.subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(shop.port), "-U", "agent", "-d", "evade", "-c",
             "COPY back FROM STDIN (FORMAT binary)"], input=out.stdout, capture_output=True,
            timeout=60 * harness.SLOW)
        assert back.returncode == 0, back.stderr
        assert shop.sql("COPY back TO STDOUT", db="evade").rstrip("\n").split("\t") == [
            "1", "0", "2000-01-01", '"***"', "00000000-0000-0000-0000-000000000000", "***", "\\N", "0"]
    finally:
        d.stop()


def test_an_operator_of_their_own_hides_no_mask(shop):
    """It fits better than the server's, so a comparison in our own look-ups would be theirs."""
    fresh(shop)
    shop.sql("CREATE VIEW seen AS SELECT id, ssn AS x FROM customers;"
             "CREATE FUNCTION trap(oid, regclass) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS "
             "$$ BEGIN RETURN false; END $$;"
             "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = trap);"
             "GRANT USAGE ON SCHEMA public TO public", db="evade", user="agent")
    d, port = make_gate(shop)
    try:
        out = psql(port, "SELECT * FROM seen;")
        assert "(2 rows)" in out and not LEAKS.search(out), out
    finally:
        shop.sql("DROP FUNCTION trap(oid, regclass) CASCADE", db="evade", user="agent")
        d.stop()
