# SPDX-License-Identifier: MIT
"""PostgreSQL's regression suite, direct and through Tidegate: the same results, test by test."""
import difflib
import glob
import os
import re
import shutil
import subprocess
import sys

import harness

CACHE = os.environ.get("TIDEGATE_TEST_CACHE", "/var/cache/tidegate-tests")


def skip(why):
    print(f"  skip    regress: {why}\nregress: 0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def source(major):
    """The unpacked source package of the server, kept for the next run."""
    found = glob.glob(f"{CACHE}/pg-source/postgresql-{major}-*/src/test/regress")
    if not found:
        os.makedirs(f"{CACHE}/pg-source", exist_ok=True)
        done = subprocess.run([f"{harness.ROOT}/scripts/setup.sh", "--source",
                               f"postgresql-{major}", f"{CACHE}/pg-source"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = glob.glob(f"{CACHE}/pg-source/postgresql-{major}-*/src/test/regress")
        if not found:
            print(done.stdout[-2000:])
            skip(f"no source package of postgresql-{major}")
    return found[0]


def build_library(src, out, major):
    """regress.so holds C functions that some tests create."""
    done = subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w",
                           f"-I/usr/include/postgresql/{major}/server", "-o", f"{out}/regress.so",
                           f"{src}/regress.c"], capture_output=True, text=True)
    if done.returncode:
        skip("regress.c does not compile here: " + done.stderr.splitlines()[0])


def run(name, src, work, pg, port, regress, join):
    out = f"{work}/{name}"
    os.makedirs(out)
    shutil.chown(out, "postgres")
    argv = [regress, f"--inputdir={src}", f"--outputdir={out}", f"--bindir={harness.PGBIN[0]}",
            f"--dlpath={work}", "--host=127.0.0.1", f"--port={port}", "--user=postgres",
            "--max-concurrent-tests=20", f"--schedule={src}/parallel_schedule",
            "--dbname=regression", "--encoding=UTF8", "--no-locale"]
    drop = harness.as_user("postgres")

    def enter():
        if join:
            join()
        drop()
    done = subprocess.run(argv, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, preexec_fn=enter,
                          env={"PATH": os.environ["PATH"], "PGTZ": "PST8PDT"})
    results = dict(re.findall(r"^\s*(?:test )?(\w+)\s+\.\.\. (\w+)", done.stdout, re.M))
    assert results, done.stdout[-3000:]
    return results, out


def main():
    major = int(harness.PGBIN[0].split("/")[4])
    found = glob.glob(f"/usr/lib/postgresql/{major}/lib/pgxs/src/test/regress/pg_regress")
    if not found:
        skip(f"no pg_regress: postgresql-server-dev-{major} has it")
    src = source(major)
    os.chmod(CACHE, 0o755)
    outcomes = {}
    texts = {}
    for name in ("direct", "tidegate"):
        pg = harness.Postgres(options=["max_prepared_transactions=2"])
        daemon = None
        try:
            work = os.path.join(pg.dir, "work")
            os.makedirs(work)
            shutil.chown(work, "postgres")
            tree = os.path.join(pg.dir, "regress")
            shutil.copytree(src, tree)
            subprocess.run(["chown", "-R", "postgres", tree], check=True)
            build_library(src, work, major)
            join = None
            if name == "tidegate":
                daemon = harness.Daemon(harness.policy(
                    pg.port, mask=os.environ.get("REGRESS_MASKS", "").split(";")
                    if os.environ.get("REGRESS_MASKS") else None), journal="64MiB")
                if not daemon.steering:
                    skip("no BPF on this host: " + daemon.ctl("status")["bpf"])
                join = daemon.join()
            outcomes[name], out = run(name, tree, work, pg, pg.port, found[0], join)
            texts[name] = {os.path.basename(p): open(p, errors="replace").read()
                           for p in glob.glob(f"{out}/results/*.out")}
            if daemon:
                steered = daemon.ctl("status")["kernel"]["steered"]
                restarts = [w["restarts"] for w in daemon.ctl("status")["workers"]]
                assert steered > 200 and not any(restarts), (steered, restarts)
        finally:
            if daemon:
                daemon.stop()
            pg.stop()
    report(outcomes, texts)


def report(outcomes, texts):
    bad = 0
    for test, direct in sorted(outcomes["direct"].items()):
        through = outcomes["tidegate"].get(test, "missing")
        if through == direct:
            continue
        bad += 1
        print(f"  FAIL    {test}: {direct} direct, {through} through Tidegate")
        a = texts["direct"].get(f"{test}.out", "").splitlines()
        b = texts["tidegate"].get(f"{test}.out", "").splitlines()
        for line in list(difflib.unified_diff(a, b, "direct", "tidegate", lineterm="", n=1))[:40]:
            print("          " + line)
    print(f"regress: {len(outcomes['direct']) - bad} passed, {bad} failed, 0 skipped")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
