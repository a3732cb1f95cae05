#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Captures PostgreSQL sessions as golden traces.

Starts a throw-away PostgreSQL on 127.0.0.1 with SCRAM authentication, runs
each client below through a relay that keeps what passes, and writes one file
per session to postgresql/NAME.trace: records of a direction byte ('C' from the
client, 'S' from the server), a 32-bit big-endian length, and the bytes, in the
order in which they came. Neighbouring records of one direction are joined.

    capture.py [NAME...]      needs PostgreSQL 15, psql, pgbench, psycopg2

Identity of a run (keys, OIDs, nonces) is in the traces; nothing compares it.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

BIN = "/usr/lib/postgresql/15/bin"
HERE = os.path.dirname(os.path.abspath(__file__))
SERVER_PORT, RELAY_PORT = 47432, 47433

SETUP = """
CREATE TABLE customers (id int PRIMARY KEY, secret text, email text, card numeric, key uuid,
                        born date, blob bytea, doc jsonb, host inet, tags text[]);
INSERT INTO customers VALUES
 (1, '123-45-6789', 'ann@example.com', 4111111111111111, 'b5b2c1f0-7d2c-4f0e-9a51-0d2a6f1c9a01',
  '1980-02-03', '\\x00ff', '{"mail": "ann@example.com"}', '10.1.2.3', '{a,"b c"}'),
 (2, NULL, E'tab\\there\\nline\\\\', 12.50, NULL, NULL, '', '[]', NULL, '{}'),
 (3, '987-65-4321', '"quoted", comma', -1, NULL, '2001-12-31', NULL, NULL, '::1', NULL);
CREATE TABLE accounts (aid int PRIMARY KEY, balance int);
INSERT INTO accounts SELECT i, 0 FROM generate_series(1, 10) i;
CREATE ROLE raw LOGIN SUPERUSER;
CREATE FUNCTION grumble() RETURNS void LANGUAGE plpgsql AS
 $$ BEGIN RAISE NOTICE 'seen ann@example.com'; END $$;
"""

PSQL = {
    "psql-simple": """
SELECT 1 AS one;
SELECT id, secret, email FROM customers ORDER BY id;
SELECT upper(secret) AS x, count(*) FROM customers GROUP BY 1 ORDER BY 1;
SELECT * FROM customers WHERE false;
BEGIN; UPDATE accounts SET balance = balance + 1 WHERE aid = 1; COMMIT;
SELECT 1\\; SELECT 2 AS two;
-- nothing
;
""",
    "psql-errors": """
SELECT nonsense FROM nowhere;
BEGIN;
SELECT 1/0;
SELECT 1;
ROLLBACK;
INSERT INTO customers (id, secret) VALUES (1, 'dup');
SELECT grumble();
DO $$ BEGIN RAISE EXCEPTION 'no luck for ann@example.com'; END $$;
SELECT 1\\; SELECT 1/0\\; SELECT 2;
SET standard_conforming_strings = off;
SELECT 'a\\\\b';
SET standard_conforming_strings = on;
SET client_encoding = latin1;
SELECT 'ok';
""",
    "psql-copy": """
COPY customers TO STDOUT;
COPY customers (id, secret) TO STDOUT WITH (FORMAT csv, HEADER);
COPY (SELECT email, doc FROM customers ORDER BY id) TO STDOUT WITH (FORMAT csv, QUOTE '''', FORCE_QUOTE *);
\\copy accounts from stdin
11\t5
12\t6
\\.
COPY accounts FROM STDIN;
13\t7
\\.
COPY accounts FROM STDIN;
not a number\tx
\\.
SELECT count(*) FROM accounts;
COPY customers (id, email, key) TO STDOUT WITH (FORMAT binary);
""",
    "psql-cursor": """
BEGIN;
DECLARE c CURSOR FOR SELECT id, secret FROM customers ORDER BY id;
FETCH 2 FROM c;
MOVE 1 IN c;
CLOSE c;
PREPARE p (int) AS SELECT secret FROM customers WHERE id = $1;
EXECUTE p(1);
EXECUTE p(2);
DEALLOCATE p;
COMMIT;
EXPLAIN (COSTS OFF) SELECT secret FROM customers;
LISTEN news;
NOTIFY news, 'from ann@example.com';
SELECT 1;
DISCARD ALL;
""",
}

PGBENCH = {
    "pgbench-simple": ("simple", "SELECT balance FROM accounts WHERE aid = 1;\n"),
    "pgbench-extended": ("extended", "\\set a 3\nSELECT balance FROM accounts WHERE aid = :a;\n"
                         "UPDATE accounts SET balance = balance + 1 WHERE aid = :a;\n"),
    "pgbench-prepared": ("prepared", "\\set a 1\nSELECT id, secret FROM customers WHERE id = :a;\n"
                         "BEGIN;\nUPDATE accounts SET balance = 1 WHERE aid = :a;\nEND;\n"),
    "pgbench-pipeline": ("prepared", "\\set a 2\n\\startpipeline\nBEGIN;\n"
                         "SELECT secret FROM customers WHERE id = :a;\n"
                         "UPDATE accounts SET balance = 2 WHERE aid = :a;\nSELECT :a;\nEND;\n"
                         "\\endpipeline\nSELECT 9;\n"),
}


def psycopg2_session(dsn):
    import psycopg2

    conn = psycopg2.connect(dsn)
    cur = conn.cursor()
    cur.execute("SELECT id, secret FROM customers WHERE id = %s", (1,))
    cur.fetchall()
    named = conn.cursor("server_side")
    named.itersize = 2
    named.execute("SELECT email FROM customers ORDER BY id")
    list(named)
    conn.commit()
    try:
        cur.execute("SELECT * FROM missing")
    except psycopg2.Error:
        conn.rollback()
    lo = conn.lobject(0, "w")  # large objects use function calls
    lo.write(b"hello")
    lo.close()
    conn.commit()
    conn.close()


class Raw:
    """A client that speaks the protocol itself, for what no driver here sends."""

    def __init__(self):
        self.sock = socket.create_connection(("127.0.0.1", RELAY_PORT))
        body = struct.pack(">I", 3 << 16) + b"user\0raw\0database\0shop\0\0"
        self.sock.sendall(struct.pack(">I", len(body) + 4) + body)
        self.until(b"Z")

    def send(self, *messages):
        self.sock.sendall(b"".join(t + struct.pack(">I", len(b) + 4) + b for t, b in messages))

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def until(self, types):
        while True:
            head = self.read(5)
            self.read(struct.unpack(">I", head[1:])[0] - 4)
            if head[:1] in types:
                return


def parse(name, text):
    return b"P", name.encode() + b"\0" + text.encode() + b"\0\0\0"


def bind(portal, name, *values, fmt=0):
    params = b"".join(struct.pack(">I", len(v)) + v for v in values)
    return b"B", (portal.encode() + b"\0" + name.encode() + b"\0\0\0" + struct.pack(">H", len(values))
                  + params + struct.pack(">HH", 1, fmt))


def execute(portal, rows=0):
    return b"E", portal.encode() + b"\0" + struct.pack(">I", rows)


def target(t, kind, name):
    return t, kind + name.encode() + b"\0"


SYNC, FLUSH = (b"S", b""), (b"H", b"")


def raw_session(_):
    c = Raw()
    everything = "SELECT * FROM customers WHERE id >= $1 ORDER BY id"
    c.send(parse("s1", everything), target(b"D", b"S", "s1"), FLUSH)
    c.until(b"T")
    c.send(bind("", "s1", b"1", fmt=1), execute(""), SYNC)
    c.until(b"Z")
    c.send(parse("", "BEGIN"), bind("", ""), execute(""), bind("p", "s1", b"1"),
           target(b"D", b"P", "p"), execute("p", 1), execute("p", 1), FLUSH)
    c.until(b"s")
    c.until(b"s")
    c.send(execute("p"), target(b"C", b"P", "p"), SYNC)
    c.until(b"Z")
    c.send((b"Q", b"COMMIT\0"))
    c.until(b"Z")
    # errors in the middle of batches, pipelined
    c.send(parse("", "SELECT 1 +"), bind("", ""), execute(""), SYNC,
           parse("", "SELECT 1/$1::int"), bind("", "", b"0"), target(b"D", b"P", ""), execute(""),
           execute(""), SYNC, (b"Q", b"SELECT 5\0"), parse("", ""), bind("", ""), execute(""), SYNC)
    for _ in range(4):
        c.until(b"Z")
    # COPY through the extended protocol
    c.send(parse("", "COPY accounts FROM STDIN"), bind("", ""), execute(""), SYNC)
    c.until(b"G")
    c.send((b"d", b"21\t1\n"), (b"d", b"22\t2\n"), (b"c", b""), SYNC)
    c.until(b"Z")
    c.send(parse("", "COPY accounts FROM STDIN"), bind("", ""), execute(""), SYNC)
    c.until(b"G")
    c.send((b"f", b"changed my mind\0"), SYNC)
    c.until(b"Z")
    c.send(parse("", "COPY customers TO STDOUT"), bind("", ""), execute(""), SYNC)
    c.until(b"Z")
    c.send(target(b"C", b"S", "s1"), SYNC)
    c.until(b"Z")
    c.send((b"X", b""))


def psql_session(script):
    def run(dsn):
        subprocess.run(["psql", "-X", "-q", "-d", dsn], input=script.encode(), check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def pgbench_session(mode, script):
    def run(dsn):
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as f:
            f.write(script)
            f.flush()
            os.chmod(f.name, 0o644)
            env = dict(os.environ, PGPASSWORD="secret")
            subprocess.run([BIN + "/pgbench", "-n", "-t", "3", "-M", mode, "-f", f.name, "-h",
                            "127.0.0.1", "-p", str(RELAY_PORT), "-U", "agent", "shop"], env=env,
                           check=False, stdout=subprocess.DEVNULL)
    return run


class Relay:
    """Passes one connection at a time and keeps it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", RELAY_PORT))
        self.sessions = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", SERVER_PORT))
            record, lock = [], threading.Lock()
            self.sessions.append(record)
            for side in ((client, server, b"C"), (server, client, b"S")):
                threading.Thread(target=self.pump, args=side + (record, lock), daemon=True).start()

    @staticmethod
    def pump(source, sink, which, record, lock):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                try:
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                return
            with lock:
                record.append((which, data))
                sink.sendall(data)


def write_trace(name, records):
    joined = []
    for which, data in records:
        if joined and joined[-1][0] == which:
            joined[-1] = (which, joined[-1][1] + data)
        else:
            joined.append((which, data))
    path = os.path.join(HERE, "postgresql", name + ".trace")
    with open(path, "wb") as f:
        for which, data in joined:
            f.write(which + struct.pack(">I", len(data)) + data)
    print(f"{name}: {len(joined)} records, {os.path.getsize(path)} bytes")


def main():
    todo = {n: psql_session(s) for n, s in PSQL.items()}
    todo.update({n: pgbench_session(m, s) for n, (m, s) in PGBENCH.items()})
    todo["psycopg2"] = psycopg2_session
    todo["raw"] = raw_session
    wanted = sys.argv[1:] or list(todo)
    home = tempfile.mkdtemp(prefix="tg-capture-")
    shutil.chown(home, "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    run = lambda *a, **k: subprocess.run(as_postgres + list(a), check=True,
                                         stdout=subprocess.DEVNULL, **k)
    data = home + "/data"
    with open(home + "/pw", "w") as f:
        f.write("secret")
    run(BIN + "/initdb", "-D", data, "-U", "agent", "--pwfile", home + "/pw", "-A",
        "scram-sha-256", "-E", "UTF8", "--no-locale", "-N")
    with open(data + "/pg_hba.conf", "r+") as f:
        rules = f.read()
        f.seek(0)
        f.write("host all raw 127.0.0.1/32 trust\n" + rules)
    server = subprocess.Popen(as_postgres + [BIN + "/postgres", "-D", data, "-p", str(SERVER_PORT), "-k",
                              home, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
                              stderr=subprocess.DEVNULL)
    try:
        admin = f"host=127.0.0.1 port={SERVER_PORT} user=agent password=secret dbname="
        for _ in range(100):
            if subprocess.run(["psql", "-X", "-q", "-d", admin + "postgres", "-c",
                               "CREATE DATABASE shop"], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", admin + "shop"],
                       input=SETUP.encode(), check=True)
        relay = Relay()
        dsn = f"host=127.0.0.1 port={RELAY_PORT} user=agent password=secret dbname=shop"
        for name in wanted:
            relay.sessions.clear()
            todo[name](dsn)
            time.sleep(0.2)
            # pgbench opens a connection of its own first; the last one does the work.
            write_trace(name, relay.sessions[-1])
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
