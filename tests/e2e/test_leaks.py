# SPDX-License-Identifier: MIT
"""Second round: carriers that are no tables, names that mean another thing to the server, texts of others."""
import re
import struct

import pytest
import harness
from harness import policy, wait_for
from test_evasion import CARRY, CATALOG, DESCRIBE_P, FLUSH, SYNC, Wire

MASKS = ["{ column: customers.ssn, as: last4 }", "{ column: customers.pin, as: redact }",
         "{ column: customers.numéro, as: redact }"]
LEAKS = re.compile("sekret|terkes|73656b726574|471147|741174|geheim", re.I)

TABLES = """
CREATE TABLE kinds (id int PRIMARY KEY);
INSERT INTO kinds VALUES (1), (2);
CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text UNIQUE, pin int, "numéro" text,
 kind int REFERENCES kinds ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO customers VALUES (1, 'Ada', 'sekret-a-6789', 471147, 'geheim', 1);
CREATE TABLE orders (id int, customer text REFERENCES customers(ssn));
INSERT INTO orders VALUES (1, 'sekret-a-6789');
CREATE TABLE older () INHERITS (customers);
INSERT INTO older VALUES (2, 'Alan', 'sekret-b-6789', 471148, 'geheim');
ALTER TABLE older ALTER ssn SET NOT NULL;
CREATE TABLE own (id int, ssn text) INHERITS (customers);
INSERT INTO own (id, ssn, pin) VALUES (3, 'sekret-c-4321', 471149);
CREATE TABLE notes (id serial PRIMARY KEY, body text);
CREATE FUNCTION open_as(refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$
BEGIN OPEN $1 FOR SELECT reverse(ssn) FROM customers; RETURN $1; END $$;
CREATE FUNCTION pass(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
"""


def fresh(pg):
    pg.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION agent; "
           "SELECT lo_unlink(oid) FROM pg_largeobject_metadata;", db="leaks")
    pg.sql(TABLES, db="leaks", user="agent")


@pytest.fixture(scope="module")
def shop(pg):
    pg.sql("CREATE ROLE chief SUPERUSER LOGIN; CREATE DATABASE leaks OWNER agent;")
    return pg


def make_gate(shop, **kw):
    port = harness.free_port()
    target = kw.pop("target", "") + f'listen: "127.0.0.1:{port}"\nlisten_by_owner: true'
    config = policy(shop.port, target=target, **kw).replace("cgroup: $CGROUP", "uid: [0]")
    return harness.Daemon(config, bpf="off"), port


@pytest.fixture(scope="module")
def gate(shop):
    d, port = make_gate(shop, mask=MASKS, target=CATALOG + "\n")
    yield port
    d.stop()


class Client(Wire):
    def __init__(self, port, user="agent", **params):
        self.s = harness.socket.create_connection(("127.0.0.1", port), 10)
        self.s.settimeout(10 * harness.SLOW)
        self.s.sendall(harness.startup(user=user, database="leaks", **params))
        self.until_ready()

    def texts(self, *sql):
        """Simple queries in their turn: all that came, as text."""
        return "\n".join(seen(self.ask(self.query(s))) for s in sql)

    def until_complete(self, *messages):
        """A batch that is answered and not ended."""
        self.s.sendall(b"".join(messages) + FLUSH)
        kind = ""
        while kind not in ("C", "E"):
            kind = self.read(1).decode()
            body = self.read(struct.unpack(">I", self.read(4))[0] - 4)
        assert kind == "C", body

    @classmethod
    def raw_query(cls, sql):
        return cls.msg("Q", sql + b"\0")

    @classmethod
    def raw_parse(cls, sql, name=b""):
        return cls.msg("P", name + b"\0" + sql + b"\0\0\0")

    @classmethod
    def raw_bind(cls, name=b"", portal=b""):
        return cls.msg("B", portal + b"\0" + name + b"\0" + struct.pack(">HHH", 0, 0, 0))

    @classmethod
    def close_named(cls, kind, name):
        return cls.msg("C", kind + name + b"\0")


def seen(got):
    return "\n".join(body.decode("latin1") for _, body in got)


def no_leak(text):
    leak = LEAKS.search(text)
    assert not leak, text[max(0, leak.start() - 300):leak.end() + 300]
    return text


@pytest.fixture
def client(shop, gate):
    fresh(shop)
    made = []

    def make(**kw):
        made.append(Client(gate, **kw))
        return made[-1]
    yield make
    for c in made:
        c.close()


XML = "table_to_xml('customers', true, false, '')::text"
# Each leaves a masked value where the last statement finds it.
CARRIERS = {
    "advisory lock": ["BEGIN", "SELECT pg_advisory_xact_lock(pin) FROM customers",
                      "SELECT objid FROM pg_locks WHERE locktype = 'advisory'", "ROLLBACK"],
    "try lock": ["BEGIN", "SELECT pg_try_advisory_lock_shared(pin::bigint) FROM customers",
                 "SELECT objid FROM pg_locks WHERE locktype = 'advisory'", "ROLLBACK"],
    "position": ["BEGIN", "SELECT lo_create(9999)", "SELECT lo_open(9999, 393216)",
                 "SELECT lo_lseek64(0, pin, 0) FROM customers WHERE id = 1", "SELECT lo_tell64(0)", "ROLLBACK"],
    "insert xml": [f"INSERT INTO notes(body) SELECT {XML}", "TABLE notes"],
    "setting xml": [f"SELECT length(set_config('my.xml', {XML}, false))", "SHOW my.xml"],
    "notify xml": ["LISTEN leak", f"SELECT pg_notify('leak', substr({XML}, 1, 4000))", "SELECT 1"],
    "default xml": [f"ALTER TABLE notes ALTER body SET DEFAULT {XML}", "INSERT INTO notes DEFAULT VALUES",
                    "TABLE notes"],
    "table's default": [f"CREATE TABLE made (i int, t text DEFAULT {XML})", "INSERT INTO made(i) VALUES (1)",
                        "TABLE made"],
    "domain's default": ["CREATE DOMAIN made AS text", f"ALTER DOMAIN made SET DEFAULT {XML}",
                         "CREATE TABLE m (i int, t made)", "INSERT INTO m(i) VALUES (1)", "TABLE m"],
    "partition's bound": ["CREATE TABLE made (t text) PARTITION BY LIST (t)",
                          f"CREATE TABLE made1 PARTITION OF made FOR VALUES IN (({XML}))",
                          "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'made1'"],
    "execute's argument": ["PREPARE p(text) AS SELECT $1", f"EXECUTE p({XML})"],
    "execute into": ["PREPARE p(text) AS INSERT INTO notes(body) VALUES ($1)", f"EXECUTE p({XML})", "TABLE notes"],
    "execute a function": ["PREPARE p(text) AS SELECT $1", f"EXECUTE p(pass({XML}))"],
    "name in capitals": ["SELECT table_to_xml('CUSTOMERS', true, false, '')"],
    "name with spaces": ["SELECT table_to_xml(' customers ', true, false, '')"],
    "schema with spaces": ["SELECT table_to_xml('public . customers', true, false, '')"],
    "quoted in capitals": ["SELECT table_to_xml('\"public\".Customers', true, false, '')"],
    "cursor reopened": ["BEGIN", "DECLARE c CURSOR FOR SELECT name || '' FROM customers", "CLOSE c",
                        "SELECT open_as('c')", "FETCH ALL FROM c", "ROLLBACK"],
    "all cursors closed": ["BEGIN", "DECLARE c CURSOR FOR SELECT name || '' FROM customers", "CLOSE ALL",
                           "SELECT open_as('c')", "FETCH ALL FROM c", "ROLLBACK"],
    "two handles": ["PREPARE a AS SELECT name || '' FROM customers",
                    "DEALLOCATE a; PREPARE a AS SELECT reverse(ssn) FROM customers; PREPARE b AS SELECT 1",
                    "EXECUTE a"],
    "prepared twice": ["PREPARE a AS SELECT reverse(ssn) FROM customers", "PREPARE a AS SELECT 1", "EXECUTE a"],
    "left behind by a parent": ["ALTER TABLE ONLY customers DROP COLUMN ssn CASCADE", "SELECT ssn FROM older"],
    "kept by a child": ["ALTER TABLE customers DROP COLUMN ssn CASCADE", "SELECT ssn FROM own"],
    "shorter": ["BEGIN", "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
                'ALTER TABLE customers ALTER ssn TYPE "char"', "SELECT ssn FROM customers", "ROLLBACK"],
    "row of a child": ["SELECT o FROM ONLY older o", "SELECT (o).* FROM own o", "SELECT o.ssn || '' FROM older o"],
    "set operations": ["SELECT name FROM customers UNION ALL SELECT ssn FROM customers",
                       "SELECT x FROM (SELECT name AS x FROM customers UNION ALL SELECT ssn FROM customers) t",
                       "WITH RECURSIVE r(n, s) AS (SELECT 1, name FROM customers UNION ALL SELECT n + 1, ssn "
                       "FROM r JOIN customers ON n = 1) SELECT s FROM r",
                       "SELECT name FROM customers EXCEPT SELECT ssn FROM customers",
                       "SELECT u FROM (SELECT name AS u FROM customers) a FULL JOIN (SELECT ssn AS u FROM customers) b "
                       "USING (u)"],
    "cascade": ["DELETE FROM kinds WHERE id = 1", "UPDATE kinds SET id = 3 WHERE id = 1"],
}


@pytest.mark.parametrize("way", CARRIERS)
def test_carriers(client, way):
    no_leak(client().texts(*CARRIERS[way]))


def test_copy_of_a_namesake(client):
    """Two tables of one name, one of them masked: what comes is hidden, and it comes."""
    c = client()
    text = no_leak(c.texts("CREATE SCHEMA other", "CREATE TABLE other.customers (a text)",
                           "INSERT INTO other.customers VALUES ('mine')", "SET search_path = other, public",
                           "COPY customers TO STDOUT", "COPY other.customers TO STDOUT",
                           "COPY public.customers TO STDOUT", "CREATE TEMP TABLE customers (b text)",
                           "COPY customers TO STDOUT", "SELECT 4714"))
    assert "4714" in text and "mine" in text


def test_seed(client):
    """A seed that is a masked value can be found from what random() gives."""
    text = client().texts("SELECT setseed(pin / 1000000.0) FROM customers WHERE id = 1", "SELECT random()")
    assert CARRY in text


def test_name_by_number(client, shop):
    oid = shop.sql("SELECT 'customers'::regclass::oid", db="leaks").strip()
    no_leak(client().texts(f"SELECT table_to_xml('{oid}', true, false, '')"))


@pytest.mark.parametrize("sql", ["SELECT pg_create_physical_replication_slot('a' || pin) FROM customers WHERE id = 1",
                                 "SELECT pg_replication_origin_create('a' || pin) FROM customers WHERE id = 1",
                                 "SELECT pg_notify('a', encode(pg_read_binary_file('PG_VERSION'), 'hex'))"])
def test_carriers_of_administrators(client, sql):
    assert CARRY in client(user="chief").texts(sql)


def test_check_that_a_cascade_fails(client, shop):
    """'Failing row contains (...)' of a table that the statement does not name."""
    shop.sql("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey; "
             "ALTER TABLE customers ADD CHECK (kind < 3)", db="leaks", user="agent")
    text = no_leak(client().texts("UPDATE kinds SET id = 5 WHERE id = 1"))
    assert "violates check constraint" in text


def test_other_details_are_told(client):
    """What has nothing to do with masked columns is not hidden."""
    text = client().texts("INSERT INTO kinds VALUES (2)", "INSERT INTO notes(id) VALUES (7), (7)")
    assert "Key (id)=(2) already exists" in text and "Key (id)=(7) already exists" in text


def test_deferred_until_sync(client, shop):
    """An error that belongs to no statement: it comes with the end of the implicit transaction."""
    shop.sql("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey; "
             "ALTER TABLE customers ADD COLUMN k int, ADD EXCLUDE USING btree (k WITH =, left(ssn, 6) WITH =) "
             "DEFERRABLE INITIALLY DEFERRED; INSERT INTO customers(id, ssn) VALUES (9, 'sekret-9')",
             db="leaks", user="agent")
    c = client()
    no_leak(seen(c.ask(c.parse("UPDATE customers SET k = 1"), c.bind(), c.execute(), SYNC)))


def test_statistics_that_fail(client, shop):
    shop.sql("DELETE FROM orders; DELETE FROM customers; CREATE INDEX ON customers ((ssn::int)) WHERE id > 99",
             db="leaks", user="agent")
    c = client()
    for sql in ("VACUUM ANALYZE", "VACUUM (ANALYZE) customers", "ANALYZE", "REINDEX TABLE customers", "CLUSTER"):
        no_leak(c.texts(sql))


FILTERS = """CREATE VIEW filters AS SELECT id FROM customers WHERE ssn::int > 0;
CREATE VIEW over_it AS SELECT n.id AS x FROM notes n, filters;
CREATE MATERIALIZED VIEW kept AS SELECT id FROM customers WHERE ssn::int > 0 WITH NO DATA;
CREATE VIEW shows AS SELECT table_to_xml('customers', true, false, '')::text AS z;
INSERT INTO notes(body) VALUES ('a');"""


@pytest.mark.parametrize("sql", ["SELECT id FROM filters", "SELECT count(*) FROM filters", "SELECT x FROM over_it",
                                 "COPY (SELECT id FROM filters) TO STDOUT", "REFRESH MATERIALIZED VIEW kept",
                                 "SELECT z FROM shows", "COPY (SELECT z || '' FROM shows) TO STDOUT"])
def test_views_that_only_read(client, shop, sql):
    """No column of theirs is masked, but what they choose rows by fails with a value; or is all they show."""
    shop.sql(FILTERS, db="leaks", user="agent")
    c = client()
    c.texts("CREATE TABLE made (i int)")  # whichever worker: its snapshot is void now
    text = no_leak(c.texts(sql))
    assert "hidden by a mask rule" in text or "***" in text, text


# ------------------------------------------------------------------ what a name means

LONG = b"n" * 63
HARMLESS, LEAKING = b"SELECT name || '' FROM customers", b"SELECT reverse(ssn) FROM customers"


def aliases(c, one, other):
    """@other takes the place of @one, if they are one name to the server."""
    c.ask(c.raw_parse(HARMLESS, one), SYNC)
    c.ask(c.close_named(b"S", other), SYNC)
    c.ask(c.raw_parse(LEAKING, other), SYNC)
    got = c.ask(c.raw_bind(one), c.execute(), SYNC)
    no_leak(seen(got))
    got += c.ask(c.raw_bind(one, b"p"), DESCRIBE_P.replace(b"P\0", b"Pp\0").replace(b"\6", b"\7"),
                 c.execute("p"), SYNC)
    no_leak(seen(got))


def test_names_are_cut(client):
    aliases(client(), LONG + b"1", LONG + b"2")


def test_names_in_another_encoding(client):
    c = client()
    c.ask(c.query("SET client_encoding = 'LATIN1'"))
    c.ask(c.raw_parse(HARMLESS, b"\xe9"), SYNC)
    c.ask(c.query("SET client_encoding = 'UTF8'"))
    c.ask(c.close_named(b"S", b"\xc3\xa9"), SYNC)
    c.ask(c.raw_parse(LEAKING, b"\xc3\xa9"), SYNC)
    c.ask(c.query("SET client_encoding = 'LATIN1'"))
    no_leak(seen(c.ask(c.raw_bind(b"\xe9"), c.execute(), SYNC)))


def test_portals_are_cut(client):
    c = client()
    got = c.ask(c.parse("SELECT name || '' FROM customers", name="a"), c.parse("SELECT reverse(ssn) FROM customers", name="b"),
                c.raw_bind(b"a", LONG + b"1"), c.close_named(b"P", LONG + b"2"), c.raw_bind(b"b", LONG + b"2"),
                c.execute((LONG + b"1").decode()), SYNC)
    no_leak(seen(got))


def test_long_names_work(client):
    c = client()
    got = c.ask(c.raw_parse(b"SELECT 4711", LONG + b"x"), c.raw_bind(LONG + b"x", LONG + b"y"),
                c.execute((LONG + b"y").decode()), c.close_named(b"S", LONG + b"x"), SYNC)
    assert "4711" in seen(got)
    got = c.ask(c.raw_parse("SELECT 4712".encode(), "é".encode()), c.raw_bind("é".encode(), "ü".encode()),
                Wire.msg("E", "ü".encode() + b"\0" + b"\0\0\0\0"), SYNC)
    assert "4712" in seen(got)


def test_fetch_of_another_cursor(client):
    """FETCH is parsed while its name means one cursor and runs while it means another."""
    c = client()
    c.ask(c.query("BEGIN"))
    c.ask(c.query("DECLARE c CURSOR FOR SELECT name || '' FROM customers"))
    c.ask(c.parse("FETCH ALL FROM c", name="f"), SYNC)
    got = c.ask(c.bind(name="f"), c.execute(), SYNC)
    assert sum(kind == "D" for kind, _ in got) == 3 and "Ada" in seen(got), got
    c.ask(c.query("CLOSE c"))
    c.ask(c.query("DECLARE c CURSOR FOR SELECT reverse(ssn) FROM customers"))
    got = c.ask(c.bind(name="f"), c.execute(), SYNC)
    no_leak(seen(got))
    assert sum(kind == "D" for kind, _ in got) == 3, got
    c.ask(c.query("CLOSE c"))
    c.ask(c.query("DECLARE c CURSOR FOR SELECT name || '' FROM customers"))
    got = c.ask(c.bind(name="f"), c.execute(), SYNC)
    assert "Ada" in seen(got), got


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "LATIN9"])
def test_column_in_another_encoding(client, encoding):
    c = client(client_encoding=encoding)
    no_leak(seen(c.ask(c.raw_query('SELECT upper("numéro"), numéro FROM customers'.encode("latin1")))))
    no_leak(seen(c.ask(c.raw_parse('SELECT upper(numéro) FROM customers'.encode("latin1")), c.raw_bind(),
                       c.execute(), SYNC)))
    no_leak(seen(c.ask(c.raw_query("COPY customers (numéro) TO STDOUT".encode("latin1")))))
    got = c.ask(c.raw_query("SELECT 'é' || 4711".encode("latin1")))
    assert "é4711" in seen(got), got


def test_column_in_utf8(client):
    c = client()
    no_leak(seen(c.ask(c.raw_query('SELECT upper("numéro"), numéro FROM customers'.encode()))))
    assert "4713" in c.texts("SELECT 4713 AS \"größe\" ORDER BY \"größe\"")


# A second byte of a character that is a backslash, to who reads it in another encoding.
TRICK = b"SELECT E'\x95\x5c', reverse(ssn) FROM customers --'"


def as_sjis(c):
    """The session reads SJIS, but for the block that is open."""
    c.ask(c.query("SET client_encoding = 'SJIS'"))
    c.ask(c.query("BEGIN"))
    c.ask(c.query("SET LOCAL client_encoding = 'UTF8'"))


def test_encoding_comes_back_in_a_batch(client):
    c = client()
    as_sjis(c)
    got = c.ask(c.parse("ROLLBACK"), c.bind(), c.execute(), c.raw_parse(TRICK), c.raw_bind(), c.execute(), SYNC)
    no_leak(seen(got))


def test_encoding_comes_back_at_a_savepoint(client):
    c = client()
    c.ask(c.query("SET client_encoding = 'SJIS'"))
    c.ask(c.query("BEGIN"))
    c.ask(c.query("SAVEPOINT s"))
    c.ask(c.query("SET client_encoding = 'UTF8'"))
    got = c.ask(c.parse("ROLLBACK TO s"), c.bind(), c.execute(), c.raw_parse(TRICK), c.raw_bind(), c.execute(), SYNC)
    no_leak(seen(got))


def test_encoding_comes_back_with_an_error(client):
    """Nothing ran: a Parse that fails ends the block's settings, too."""
    c = client()
    as_sjis(c)
    c.s.sendall(c.parse("SELECT nothing_of_this_name") + SYNC + c.raw_query(b"ROLLBACK; " + TRICK))
    no_leak(seen(c.until_ready(2)))


@pytest.mark.parametrize("same", [True, False])
def test_encoding_is_not_told_yet(client, same):
    """SET has run, and is told with ReadyForQuery: before it, and after the Sync that brings it."""
    c = client()
    c.until_complete(c.parse("SET client_encoding = 'SJIS'"), c.bind(), c.execute())
    if same:
        no_leak(seen(c.ask(c.raw_parse(TRICK), c.raw_bind(), c.execute(), SYNC)))
    else:
        c.s.sendall(SYNC + c.raw_query(TRICK))
        no_leak(seen(c.until_ready(2)))


# ------------------------------------------------------------------------ function calls

def call(oid, *args):
    body = struct.pack(">IHH", oid, 0, len(args))
    for a in args:
        body += struct.pack(">I", len(a)) + a
    return Wire.msg("F", body + b"\0\0")


def test_function_call_carries_nothing(client, shop):
    oid = int(shop.sql("SELECT 'query_to_xml'::regproc::oid"))
    c = client()
    c.ask(call(oid, b"SELECT set_config('my.leak', ssn, false) FROM customers WHERE id = 1", b"t", b"f", b""))
    no_leak(c.texts("SHOW my.leak"))


# ----------------------------------------------------------------------------- approvals

@pytest.fixture(scope="module")
def held(shop):
    d, port = make_gate(shop, commands=["{ effect: write, do: approve }", "{ effect: any, do: allow }"])
    yield d, port
    d.stop()


def test_no_approval_by_another_name(shop, held):
    """What waits for its approval at Execute runs under no other name either."""
    fresh(shop)
    write = b"INSERT INTO notes(body) VALUES ('evil')"
    for kind in (b"S", b"P"):
        c = Client(held[1])
        try:
            c.ask(c.raw_parse(b"SELECT 1", LONG + b"1"), SYNC)
            if kind == b"S":
                c.s.sendall(c.close_named(b"S", LONG + b"2") + c.raw_parse(write, LONG + b"2") +
                            c.raw_bind(LONG + b"1") + c.execute() + SYNC)
            else:
                c.s.sendall(c.raw_parse(write, b"w") + c.raw_bind(LONG + b"1", LONG + b"3") +
                            c.close_named(b"P", LONG + b"4") + c.raw_bind(b"w", LONG + b"4") +
                            c.execute((LONG + b"3").decode()) + SYNC)
            wait_for("a question", lambda: held[0].ctl("approval.list"))
        finally:
            c.close()
    assert shop.sql("SELECT count(*) FROM notes", db="leaks") == "0\n"


@pytest.mark.parametrize("chain", [False, True])
def test_no_approval_by_fetching(shop, held, chain):
    """A portal that waits for its approval is fetched from, by who did not know what it would be."""
    fresh(shop)
    c = Client(held[1])
    write = "INSERT INTO notes(body) VALUES ('evil') RETURNING 1"
    try:
        c.s.settimeout(2 * harness.SLOW)
        c.ask(c.query("BEGIN"))
        c.ask(c.parse("FETCH ALL FROM c", name="f"), c.raw_parse(write.encode(), b"w"), c.raw_bind(b"w", b"c"), SYNC)
        try:
            if chain:
                c.ask(c.raw_bind(b"f", b"d"), c.raw_parse(write.encode(), b"w2"), SYNC)
                got = c.ask(c.query("FETCH ALL FROM d"))
            else:
                got = c.ask(c.raw_bind(b"f"), c.execute(), SYNC)
            assert any(kind == "E" for kind, _ in got), got
        except TimeoutError:  # or it is held
            assert held[0].ctl("approval.list")
            return
        c.ask(c.query("COMMIT"))
    finally:
        c.close()
    assert shop.sql("SELECT count(*) FROM notes", db="leaks") == "0\n"


# --------------------------------------------------------------------------------- denials

def test_no_denied_statement_in_another_encoding(shop):
    fresh(shop)
    d, port = make_gate(shop, commands=["{ effect: [read, transaction, session], do: allow }",
                                        "{ effect: any, do: deny }"])
    evil = b"SELECT E'\x95\x5c'; DROP TABLE notes --'"
    c = Client(port)
    try:
        as_sjis(c)
        c.s.sendall(c.parse("ROLLBACK") + c.bind() + c.execute() + c.raw_query(evil))
        c.until_ready()
        as_sjis(c)
        c.s.sendall(c.parse("SELECT nothing_of_this_name") + SYNC + c.raw_query(b"ROLLBACK; " + evil))
        c.until_ready(2)
        c.ask(c.query("ROLLBACK"))
        c.ask(c.query("SET client_encoding = 'UTF8'"))
        c.until_complete(c.parse("SET client_encoding = 'SJIS'"), c.bind(), c.execute())
        c.s.sendall(SYNC + c.raw_query(evil))
        c.until_ready(2)
        assert shop.sql("SELECT count(*) FROM notes", db="leaks") == "0\n"
    finally:
        c.close()
        d.stop()


@pytest.mark.parametrize("name", ["'NOTES_ID_SEQ'", "' notes_id_seq'", "'public . notes_id_seq'", "'\"notes_id_seq\" '"])
def test_objects_named_by_text(shop, name):
    """An object rule knows the sequence however its name is written."""
    fresh(shop)
    d, port = make_gate(shop, commands=["{ effect: any, object: notes_id_seq, do: deny }", "{ effect: any, do: allow }"])
    c = Client(port)
    try:
        assert "denied" in c.texts(f"SELECT nextval({name})")
        assert "denied" not in c.texts("SELECT nextval('Another')")
    finally:
        c.close()
        d.stop()
