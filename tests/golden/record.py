#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes the recordings of tests/golden/recordings: what a real daemon wrote of real sessions.

    O=build tests/golden/record.py [NAME...]   needs root, PostgreSQL 15 and a built daemon

test_rerun.c feeds them to the inspector again, whole, cut and tampered with. Identity of a run
(times, ids, ports) is in them; nothing compares it.
"""
import os
import shutil
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
import harness  # noqa: E402
from harness import message  # noqa: E402

OUT = os.path.join(HERE, "recordings")
MASKS = ["{ column: customers.ssn, as: last4 }", "{ detect: [card, email], as: redact }"]
RULES = ["{ effect: [read, transaction, session], do: allow }", "{ effect: write, do: approve }",
         "{ effect: any, do: deny }"]


def parse(sql, name=""):
    return message(b"P", f"{name}\0{sql}\0".encode() + b"\0\0")


def bind(*values, name="", formats=(0,)):
    body = f"\0{name}\0".encode() + struct.pack(">HH", 0, len(values))
    for v in values:
        body += struct.pack(">I", len(v)) + v.encode()
    return message(b"B", body + struct.pack(f">H{len(formats)}H", len(formats), *formats))


EXECUTE = message(b"E", b"\0" + struct.pack(">I", 0))
DESCRIBE = message(b"D", b"P\0")
SYNC = message(b"S")


def run(sql, *values, **kw):
    return parse(sql) + bind(*values, **kw) + EXECUTE


def masks(d, c):
    for sql in ("SELECT * FROM customers ORDER BY id", "SELECT 1; SELECT ssn FROM customers",
                "SELECT 1/0", "SELECT ssn::int FROM customers", "SELECT count(*) FROM customers",
                "COPY customers TO STDOUT",
                "COPY (SELECT ssn, card FROM customers) TO STDOUT (FORMAT binary)",
                "COPY customers (ssn, id) TO STDOUT (FORMAT csv, HEADER)", "",
                "EXPLAIN SELECT ssn FROM customers",
                "DO $$ BEGIN RAISE NOTICE 'x'; END $$"):
        c.query(sql)
        c.until(b"Z")
    c.send(run("SELECT ssn, email FROM customers WHERE id < $1", "3"), run("SELECT 2"), DESCRIBE, SYNC)
    c.until(b"Z")


def refusals(d, c):
    c.query("DROP TABLE customers")
    c.until(b"Z")
    c.query("SELECT FROM WHERE")
    c.until(b"Z")
    c.query("BEGIN")
    c.until(b"Z")
    c.query("SELECT 'a' || 'b'; DROP TABLE customers")
    c.query("SELECT 3")
    c.until(b"Z")
    c.until(b"Z")
    # Behind what is on its way, in the middle of a batch, and for a name that is not there.
    c.send(run("SELECT 4"), parse("DROP TABLE notes"), bind(), EXECUTE, SYNC, run("SELECT 5"), SYNC)
    c.until(b"Z")
    c.until(b"Z")
    c.send(bind(name="nobody"), EXECUTE, SYNC)
    c.until(b"Z")
    c.query("COMMIT")
    c.until(b"Z")
    c.query("ALTER ROLE agent PASSWORD 'not to be seen'")
    c.until(b"Z")


def approval(d, c):
    def decide(op, **kw):
        d.ctl(f"approval.{op}", id=d.approval()["id"], **kw)

    c.query("INSERT INTO notes (body) VALUES ('one')")
    decide("approve")
    c.until(b"Z")
    c.query("INSERT INTO notes (body) VALUES ('two')")
    decide("deny", reason="not today")
    c.until(b"Z")
    for word in ("three", "four"):
        c.send(run("INSERT INTO notes (body) VALUES ($1)", word), SYNC)
        decide("approve" if word == "three" else "deny")
        c.until(b"Z")
    # A question that nobody has to decide: what comes before it fails while it waits.
    c.send(run("SELECT pg_sleep(0.5), 1/(random() * 0)::int"), run("INSERT INTO notes (body) VALUES ($1)", "five"), SYNC)
    c.until(b"Z")
    c.query("SELECT 6")
    c.until(b"Z")
    c.query("INSERT INTO notes (body) VALUES ('seven')")
    d.approval()
    d.ctl("session.kill", id=d.ctl("session.list")[0]["id"], reason="enough")
    c.rest()


def reload(d, c):
    c.send(parse("SELECT body FROM notes WHERE id = $1", name="s"), SYNC)
    c.until(b"Z")
    for rules in (RULES, ["{ effect: any, do: deny }"], RULES):
        d.write_config(config(d.gate, d.port, rules))
        d.ctl("policy.reload")
        time.sleep(0.2)
        c.send(bind("1", name="s"), EXECUTE, SYNC)
        c.until(b"Z")
    c.query("SELECT 8")
    c.until(b"Z")


def mapped(d, c):
    """Tidegate has logged in in the client's place: nothing of that is in the recording."""
    for sql in ("SELECT session_user", "SELECT id FROM customers", "DROP TABLE customers",
                "SELECT current_database()", "SELECT 1/0", "SELECT 2"):
        c.query(sql)
        c.until(b"Z")


def config(gate, port, rules, credential=False):
    target = (f'listen: "127.0.0.1:{gate}"\n'
              "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }\n")
    text = harness.policy(port, target=target + ("credential: c\n" if credential else ""),
                          commands=rules, mask=MASKS)
    return ("credentials: { c: { user: tidegate_catalog, password_file: $DIR/catalog.password } }\n"
            if credential else "") + text.replace("bot: {", "bot: { source: [127.0.0.1/32],")


def record(scene, pg):
    gate = harness.free_port()
    rules = ["{ effect: any, do: allow }"] if scene is masks else RULES
    d = harness.Daemon(config(gate, pg.port, rules, scene is mapped))
    d.gate, d.port = gate, pg.port
    c = harness.Raw(gate)
    scene(d, c)
    try:
        c.send(message(b"X"))
    except OSError:
        pass
    c.close()
    d.stop_process()
    print(scene.__name__, d.not_the_same_again() or d.reran)
    for path in d.recordings():
        shutil.copy(path, f"{OUT}/{scene.__name__}.tgrec.zst")
    d.stop()


def main():
    wanted = sys.argv[1:]
    scenes = [s for s in (masks, refusals, approval, reload, mapped)
              if not wanted or s.__name__ in wanted]
    os.makedirs(OUT, exist_ok=True)
    for scene in scenes:
        pg = harness.Postgres(auth="scram-sha-256" if scene is mapped else "trust")
        try:
            harness.make_shop_as_owner(pg)
            record(scene, pg)
        finally:
            pg.stop()


if __name__ == "__main__":
    main()
