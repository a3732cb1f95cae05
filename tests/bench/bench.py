#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tidegate against a direct connection, pgbouncer and haproxy, on one PostgreSQL.

Every sample of a hop is taken directly after a sample of direct; the figure is the median
of the ratios of such pairs, so that a machine that is slow for a while is so for both. Everything is on:
inspection, a column mask, detectors, recording, the kernel's steering.

  tests/bench/bench.py [--pairs N] [--seconds S] [--rows simple1,...] [--hops tidegate,...]
                       [--json FILE]

What the rows and columns mean is in README.md.
"""
import argparse
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import harness  # noqa: E402
import bench_approval  # noqa: E402

MASKS = ["{ column: pgbench_tellers.filler, as: redact }", "{ detect: [card, email], as: redact }"]
CATALOG = "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }\n"
PGBENCH = {  # row: (clients, protocol)
    "simple1": (1, "simple"), "simple8": (8, "simple"), "simple64": (64, "simple"),
    "prepared1": (1, "prepared"), "prepared8": (8, "prepared"), "prepared64": (64, "prepared"),
}
BUILD = os.path.join(harness.ROOT, os.environ.get("O", "build"))


def at_least(limit):
    return ">=", limit


def at_most(limit):
    return "<=", limit


PEERS = ("pgbouncer", "haproxy")
GOALS = {  # (hop, row): {figure: (relation, limit)}
    ("tidegate", "latency"): {"added_p50_us": at_most(25), "p99_ratio": at_most(1.5)},
    ("tidegate", "simple1"): {"ratio": at_least(0.75)},
    ("tidegate", "simple8"): {"ratio": at_least(0.75), "hop_cpu_us": at_most(22)},
    ("tidegate", "simple64"): {"ratio": at_least(0.75)},
    ("tidegate", "prepared1"): {"ratio": at_least(0.60)},
    ("tidegate", "prepared8"): {"ratio": at_least(0.60), "hop_cpu_us": at_most(22)},
    ("tidegate", "prepared64"): {"ratio": at_least(0.60)},
    ("tidegate", "wide"): {"ratio": at_least(0.55)},
    ("tidegate-accel", "wide"): {"ratio": at_least(0.80)},  # what it is without
    ("tidegate", "connects"): {"hop_cpu_us": at_most(300)},
    ("tidegate-socket", "latency"): {"added_p50_us": at_most(14), "p99_ratio": at_most(1.5)},
    ("tidegate-socket", "simple1"): {"ratio": at_least(0.83)},
    ("tidegate-socket", "simple8"): {"ratio": at_least(0.83), "hop_cpu_us": at_most(22)},
    ("tidegate-socket", "simple64"): {"ratio": at_least(0.83)},
    ("tidegate-socket", "prepared1"): {"ratio": at_least(0.70)},
    ("tidegate-socket", "prepared8"): {"ratio": at_least(0.70), "hop_cpu_us": at_most(22)},
    ("tidegate-socket", "prepared64"): {"ratio": at_least(0.70)},
    ("tidegate-accel", "latency"): {"added_p50_us": at_most(6), "p99_ratio": at_most(1.25)},
    ("tidegate-accel", "simple1"): {"ratio": at_least(0.92)},
    ("tidegate-accel", "simple8"): {"ratio": at_least(0.92)},
    ("tidegate-accel", "simple64"): {"ratio": at_least(0.92)},
    ("tidegate-accel", "prepared8"): {"ratio": at_least(0.78)},
    ("idle", "idle"): {"total_bytes": at_most(2048)},
    ("approval", "approval"): {"cached_added_us": at_most(5), "idp_added_us": at_most(1000)},
    ("kern-others", "few-connect"): {"cpu_ratio": at_most(1.02), "p50_added_us": at_most(0.5)},
    ("kern-others", "few-bulk"): {"cpu_ratio": at_most(1.02)},
    ("kern-others", "uids-bulk"): {"cpu_ratio": at_most(1.02)},
    ("kern-others", "loaded-connect"): {"cpu_ratio": at_most(1.02)},
    ("kern-others", "filled-connect"): {"cpu_ratio": at_most(1.02)},
    ("kern-agent", "few-connect"): {"cpu_ratio": at_most(1.02)},
    ("kern-agent", "few-target-loopback"): {"p50_added_us": at_most(20)},
    ("kern-agent", "filled-target-loopback"): {"p50_added_us": at_most(20)},
    ("detect", "dense"): {"gb_per_s": at_least(0.8)},
    ("detect", "sparse"): {"gb_per_s": at_least(1.5)},
    ("grant", "known"): {"known_us": at_most(5)},
    ("sql", "pgbench"): {"known_us": at_most(0.3), "unseen_us": at_most(3)},
}


def cpu_seconds(pids):
    """What the threads of the processes have run so far, to the nanosecond."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                total += int(f.read().split()[0])
    return total / 1e9


class Direct:
    name = "direct"
    pids = ()

    def __init__(self, pg):
        self.port, self.join = pg.port, None


class Tidegate:
    def __init__(self, pg, name, target=""):
        self.name, self.port = name, pg.port
        self.daemon = harness.Daemon(harness.policy(
            pg.port, target=CATALOG + target, mask=MASKS), journal="64MiB")
        assert self.daemon.steering, "nothing is steered here: " + self.daemon.log()
        self.join = self.daemon.join()
        if "accelerate: on" in target:
            self.wait_accelerated()

    def wait_accelerated(self):
        """The self-test runs beside the start."""
        def state():
            a = self.daemon.ctl("status")["accelerator"]
            return a if a["self_test"] != "running" else None
        a = harness.wait_for("the accelerator's self-test", state, 30)
        assert a["targets"][0]["directions"] == "both", a["targets"]

    @property
    def pids(self):
        return [self.daemon.process.pid, *self.daemon.children().values()]

    def stop(self):
        self.daemon.stop()


class Process:
    def __init__(self, pg, name, argv, config, user=None):
        self.name, self.port, self.join = name, harness.free_port(), None
        self.dir = tempfile.mkdtemp(prefix="tidegate-bench-")
        os.chmod(self.dir, 0o755)
        path = f"{self.dir}/config"
        with open(path, "w") as f:
            f.write(config.replace("$PORT", str(self.port)).replace("$PG", str(pg.port))
                    .replace("$DIR", self.dir))
        self.process = subprocess.Popen(argv + [path], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL,
                                        preexec_fn=harness.as_user(user) if user else None)
        self.pids = [self.process.pid]
        time.sleep(1)
        assert self.process.poll() is None, f"{name} did not start"

    def stop(self):
        self.process.terminate()
        self.process.wait()


PGBOUNCER = """[databases]
* = host=127.0.0.1 port=$PG user=agent
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PORT
auth_type = any
unix_socket_dir =
pool_mode = session
default_pool_size = 200
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
"""
HAPROXY = """global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen pg
  bind 127.0.0.1:$PORT
  server pg 127.0.0.1:$PG
"""


def pgbench(hop, clients, protocol, seconds):
    argv = ["pgbench", "-n", "-S", "-M", protocol, "-c", str(clients), "-j", "1", "-T",
            str(seconds), "-h", "127.0.0.1", "-p", str(hop.port), "-U", "agent", "shop"]
    before = cpu_seconds(hop.pids)
    out = subprocess.run(argv, preexec_fn=hop.join, capture_output=True, text=True)
    used = cpu_seconds(hop.pids) - before
    assert out.returncode == 0, out.stderr
    tps = float(re.search(r"tps = ([\d.]+)", out.stdout)[1])
    n = int(re.search(r"actually processed: (\d+)", out.stdout)[1])
    return tps, used / n * 1e6


def connects(hop, seconds):
    argv = ["pgbench", "-n", "-S", "-C", "-c", "1", "-T", str(seconds), "-h", "127.0.0.1", "-p",
            str(hop.port), "-U", "agent", "shop"]
    before = cpu_seconds(hop.pids)
    out = subprocess.run(argv, preexec_fn=hop.join, capture_output=True, text=True)
    used = cpu_seconds(hop.pids) - before
    assert out.returncode == 0, out.stderr
    n = int(re.search(r"actually processed: (\d+)", out.stdout)[1])
    return n / seconds, used / n * 1e6


def latency(hop, n):
    """p50 and p99 in us of one client, by a helper that is in the agent's cgroup from its start."""
    code = ("import psycopg2,time,sys\n"
            f"c=psycopg2.connect(host='127.0.0.1',port={hop.port},user='agent',dbname='shop')\n"
            "c.autocommit=True;u=c.cursor();t=[]\n"
            f"for i in range({n}):\n"
            " a=time.perf_counter_ns();u.execute('SELECT abalance FROM pgbench_accounts WHERE "
            "aid = %d'%(i%100000+1));u.fetchall();t.append(time.perf_counter_ns()-a)\n"
            "t.sort();print(t[len(t)//2]/1e3,t[len(t)*99//100]/1e3)\n")
    out = subprocess.run(["/usr/bin/python3", "-c", code], preexec_fn=hop.join,
                         capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return tuple(float(x) for x in out.stdout.split())


def wide(hop):
    argv = ["psql", "-X", "-A", "-t", "-o", "/dev/null", "-h", "127.0.0.1", "-p", str(hop.port),
            "-U", "agent", "-d", "shop", "-c", "SELECT * FROM wide"]
    before = cpu_seconds(hop.pids)
    began = time.perf_counter()
    out = subprocess.run(argv, preexec_fn=hop.join, capture_output=True, text=True)
    took = time.perf_counter() - began
    assert out.returncode == 0, out.stderr
    return 1 / took, (cpu_seconds(hop.pids) - before) * 1e3


def sample(row, hop, args):
    if row in PGBENCH:
        return pgbench(hop, *PGBENCH[row], args.seconds)
    if row == "latency":
        return latency(hop, 3000)
    return wide(hop) if row == "wide" else connects(hop, args.seconds)


def median(values):
    return statistics.median(values)


def measure(row, direct, hops, args):
    rows = []
    pairs = {h.name: [] for h in hops}
    for _ in range(args.pairs):
        for hop in hops:
            pairs[hop.name].append((sample(row, direct, args), sample(row, hop, args)))
    for hop in hops:
        p = pairs[hop.name]
        r = {"row": row, "hop": hop.name, "pairs": len(p)}
        if row == "latency":
            r["added_p50_us"] = round(median([h[0] - d[0] for d, h in p]), 1)
            r["p99_ratio"] = round(median([h[1] / d[1] for d, h in p]), 3)
            r["direct_p50_us"] = round(median([d[0] for d, _ in p]), 1)
        else:
            r["ratio"] = round(median([h[0] / d[0] for d, h in p]), 3)
            r["direct"] = round(median([d[0] for d, _ in p]), 1)
            r["hop_cpu_us"] = round(median([h[1] for _, h in p]), 1)
        rows.append(r)
        print("  ".join(f"{k}={v}" for k, v in r.items()), flush=True)
    return rows


def units():
    """What needs no server: the scanner and the classifier alone."""
    def run(name, *argv):
        out = subprocess.run([f"{BUILD}/tests/bench/{name}", *argv], capture_output=True, text=True,
                             check=True)
        return [json.loads(line) for line in out.stdout.splitlines()]

    rows = [{"row": r["rows"], "hop": "detect", "gb_per_s": r["gb_per_s"]}
            for r in run("bench_detect", "8", "0.5")
            if r["bench"] == "detect_bulk" and r["engine"] != "portable"]
    return rows + [{"row": r["case"], "hop": "sql", "known_us": r["known_us"],
                    "unseen_us": r["unseen_us"]}
                   for r in run("bench_sql") if r["case"] == "pgbench"] + [
                       {"row": "known", "hop": "grant", **r} for r in run("bench_grant")]


def kernel():
    """The programs alone, without a daemon: pairs by caller, then ns of each program."""
    out = subprocess.run([f"{BUILD}/tests/bench/bench_kern"], capture_output=True, text=True)
    assert out.returncode == 0, out.stdout[-2000:] + out.stderr
    rows = []
    for r in (json.loads(line) for line in out.stdout.splitlines()):
        if r["bench"] == "kern_fill":
            assert not r["error"], r
            rows.append({"row": "fill", "hop": f"kern-{r['what']}", **r})
        else:
            hop = "kern-" + r["who"].replace(" ", "-")
            other = r.get("base", r["op"])
            row = f"{r['state']}-{r['op']}" + (f"-{other}" if other != r["op"] else "")
            rows.append({"row": row, "hop": hop, **r})
    print(f"\n{'program':16} {'caller':15} {'row':16} {'ns per run':>10} {'runs':>6}")
    for r in rows:
        if r["bench"] == "kern_prog":
            print(f"{r['program']:16} {r['who']:15} {r['row']:16} {r['ns']:10} {r['runs']:6}")
    return rows


IDLE, IDLE_FIRST, IDLE_WORKERS = 10000, 1000, 2


def idle():
    """User memory of the workers for a session that has logged in to a stub and says nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # One descriptor for each here and in the stub, two in its worker.
    total = min(IDLE, hard - 500)
    gate = harness.free_port()
    stub, stub_pid = harness.stub_server(process=True)
    config = harness.policy(stub, target=f'listen: "127.0.0.1:{gate}"\n')
    d = harness.Daemon(config.replace("bot: {", "bot: { source: [127.0.0.1/32],"),
                       workers=IDLE_WORKERS, journal="256MiB")
    workers = [p for name, p in d.children().items() if name.startswith("worker")]
    groups = {"session_bytes": workers, "parent_bytes": [d.process.pid]}

    def memory():
        time.sleep(4)  # until the tails of the recordings are in files
        return {k: sum(harness.private_kib(p) for p in pids) * 1024 for k, pids in groups.items()}

    try:
        conns = harness.log_in(gate, IDLE_FIRST)
        before = memory()
        conns += harness.log_in(gate, total - IDLE_FIRST)
        after = memory()
        ran = cpu_seconds(workers)
        time.sleep(5)
        ran = (cpu_seconds(workers) - ran) / 5
        assert len(d.ctl("session.list", timeout=60)) == total
        began = time.perf_counter()
        conns[IDLE_FIRST].query("SELECT 1")
        conns[IDLE_FIRST].until(b"Z")
        took = time.perf_counter() - began
        row = {k: round((after[k] - before[k]) / (total - IDLE_FIRST)) for k in groups}
        row["total_bytes"] = sum(row.values())
        return [{"row": "idle", "hop": "idle", "sessions": total, **row,
                 "idle_cpu_percent": round(ran * 100, 2), "answered_us": round(took * 1e6)}]
    finally:
        d.stop()
        os.kill(stub_pid, signal.SIGKILL)
        os.waitpid(stub_pid, 0)


def peer_limit(results, row):
    """Of the peers that were measured in this run the best."""
    ratios = [r["ratio"] for r in results if r["row"] == row and r["hop"] in PEERS]
    return max(ratios, default=None)


def verdicts(results):
    """One line for each figure that has a goal; True in front if it is reached."""
    for r in results:
        for figure, (relation, limit) in GOALS.get((r["hop"], r["row"]), {}).items():
            if figure not in r:
                continue  # a row of single programs
            value = r[figure]
            good = value >= limit if relation == ">=" else value <= limit
            yield good, r["hop"], r["row"], figure, value, f"{relation} {limit}"
        best = peer_limit(results, r["row"]) if r["row"] in PGBENCH else None
        if r["hop"] == "tidegate" and best is not None:
            yield r["ratio"] > best, r["hop"], r["row"], "ratio", r["ratio"], f"> {best} (peers)"


def table(results):
    print(f"\n{'hop':16} {'row':11} {'figure':13} {'measured':>9}  {'goal':18}")
    for good, hop, row, figure, value, goal in verdicts(results):
        print(f"{hop:16} {row:11} {figure:13} {value:9}  {goal:18} {'' if good else 'missed'}")


def load(pg):
    pg.sql("ALTER ROLE tidegate_catalog LOGIN")
    subprocess.run(["pgbench", "-i", "-q", "-s", "10", "-h", "127.0.0.1", "-p", str(pg.port), "-U",
                    "agent", "shop"], check=True, capture_output=True)
    pg.sql("""CREATE TABLE wide AS SELECT i AS id, md5(i::text) AS a, 'customer ' || i AS b,
  'Some Street ' || i % 400 AS c, to_char(i * 1.37, '9999990.00') AS d,
  CASE WHEN i % 100 = 0 THEN 'user' || i || '@example.com' ELSE 'order-' || i END AS e,
  'invoice pending customer' AS f, (timestamp '2024-01-01' + i * interval '1 min')::text AS g,
  'note ' || i AS h, repeat('x', 20) AS j FROM generate_series(1, 100000) i""", db="shop",
           user="agent")
    pg.sql("VACUUM ANALYZE wide", db="shop")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--pairs", type=int, default=5)
    ap.add_argument("--seconds", type=int, default=3)
    ap.add_argument("--rows", default="latency,simple1,simple8,simple64,prepared1,prepared8,"
                    "prepared64,wide,connects,approval,idle,units,kernel")
    ap.add_argument("--hops", default="tidegate,tidegate-socket,tidegate-accel,pgbouncer,haproxy")
    ap.add_argument("--json")
    args = ap.parse_args()
    pg = harness.Postgres(options=["shared_buffers=512MB"])
    hops = []
    try:
        harness.make_shop(pg)
        load(pg)
        makers = {
            "tidegate": lambda: Tidegate(pg, "tidegate"),
            "tidegate-socket": lambda: Tidegate(
                pg, "tidegate-socket",
                f"socket: {pg.dir}/.s.PGSQL.{pg.port}\nsocket_auth: trust\n"),
            "tidegate-accel": lambda: Tidegate(
                pg, "tidegate-accel", f"socket: {pg.dir}/.s.PGSQL.{pg.port}\n"
                "socket_auth: trust\naccelerate: on\n"),
            "pgbouncer": lambda: Process(pg, "pgbouncer", ["pgbouncer", "-q"], PGBOUNCER,
                                         "postgres"),
            "haproxy": lambda: Process(pg, "haproxy", ["haproxy", "-f"], HAPROXY),
        }
        direct, results = Direct(pg), []
        rows = [r for r in args.rows.split(",") if r not in ("units", "idle", "kernel", "approval")]
        for name, run in (("units", units), ("idle", idle), ("kernel", kernel),
                          ("approval", lambda: bench_approval.run(pg))):
            if name in args.rows.split(","):
                results += run()
                print(*results[-1:], flush=True)
        # One Tidegate at a time: both protect the same address.
        alone = ("tidegate-socket", "tidegate-accel")
        wanted = args.hops.split(",")
        for group in [[n for n in wanted if n not in alone], *[[n] for n in wanted if n in alone]]:
            for h in hops:
                h.stop()
            hops = []
            for name in group if rows else []:
                hops.append(makers[name]())
            for row in rows if hops else []:
                results += measure(row, direct, hops, args)
        table(results)
        if args.json:
            with open(args.json, "w") as f:
                json.dump(results, f, indent=1)
    finally:
        for h in hops:
            h.stop()
        pg.stop()


if __name__ == "__main__":
    main()
