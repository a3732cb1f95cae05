# SPDX-License-Identifier: MIT
"""Socket calls on a direct connection, through the daemon, and accelerated: what differs, and may it?"""
import os
import re
import subprocess

import harness
import pytest
from harness import wait_for
from test_tcp import config

WAYS = ("direct", "tidegated", "tidegated+requests", "tidegated+both")
# Shows only while the daemon has not read, and it reads at once.
HIDDEN = {"unread_close"}


@pytest.fixture(scope="module")
def driver():
    subprocess.run(["make", "-s", f"O={os.environ.get('O', 'build')}",
                    f"{harness.BUILD}/tests/e2e/fidelity_driver".replace(harness.ROOT + "/", "")],
                   cwd=harness.ROOT, check=True)
    return f"{harness.BUILD}/tests/e2e/fidelity_driver"


def inherent():
    """The rows that bpf/README.md says a hop changes by its nature."""
    with open(f"{harness.ROOT}/bpf/README.md") as f:
        section = f.read().split("## What an agent can tell")[1].split("\n## ")[0]
    lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for line in lines for name in re.findall(r"`(\w+)`", line)}


def self_tested(d):
    def state():
        a = d.ctl("status")["accelerator"]
        return a if a["self_test"] not in ("not run", "running") else None
    a = wait_for("the self-test", state, 30)
    assert a["self_test"] == "done", a
    return a


def start(daemon, port, way):
    """A daemon for the way, and what `status` says of the accelerator."""
    target = {"tidegated": "accelerate: off"}.get(
        way, f"accelerate: on\naccelerate_directions: {way.split('+')[-1]}")
    d = daemon(config(port, target=target), journal="64MiB")
    if way == "tidegated":
        return d, None
    a = self_tested(d)
    assert a["targets"][0]["directions"] == way.split("+")[1], a["targets"]
    return d, a


def drive(driver, *args, seconds=120, check=True):
    done = subprocess.run([driver, *map(str, args)], capture_output=True, text=True,
                          timeout=seconds * harness.SLOW)
    assert not done.stderr, done.stderr
    assert not check or done.returncode == 0, done.stdout
    return dict(line.split("\t") for line in done.stdout.splitlines())


def print_table(seen, listed):
    lines = [f"  {'':18}" + "".join(f"{way:46}" for way in WAYS)]
    for row in seen["direct"]:
        values = [seen[way][row] for way in WAYS]
        if len(set(values)) > 1:
            shown = [values[0]] + [v if v != values[0] else "." for v in values[1:]]
            lines.append(f"  {row:18}" + "".join(f"{v:46}" for v in shown).rstrip())
    lines.append(f"  {len(seen['direct'])} rows, the others are alike; of those above the README names " +
                 ", ".join(sorted(listed)))
    text = "\n".join(lines) + "\n"
    print(text)
    if os.environ.get("FIDELITY_TABLE"):
        with open(os.environ["FIDELITY_TABLE"], "w") as f:
            f.write(text)


def test_what_an_agent_can_tell(daemon, driver):
    seen, status, may = {}, {}, inherent()
    assert may == {"getsockname", "connect_refused", "urgent_out", "urgent_in"}
    for way in WAYS:
        port = harness.free_port()
        if way == "direct":
            seen[way] = drive(driver, "rows", port)
            continue
        d, status[way] = start(daemon, port, way)
        seen[way] = drive(driver, "rows", port, f"{d.cgroup}/cgroup.procs")
        counted = d.ctl("status")["kernel"]["accelerated"]
        assert counted >= 20 if "+" in way else counted == 0, counted
        d.stop_process()
    print_table(seen, may)
    assert len(seen["direct"]) >= 49
    wrong = [f"{row}: {seen['direct'][row]} is now {seen['tidegated'][row]}"
             for row in seen["direct"]
             if seen["tidegated"][row] != seen["direct"][row] and row not in may]
    for way in WAYS[2:]:
        key = "both" if way == "tidegated+both" else "requests"
        lists = {r["row"] for r in status[way]["differs"]}
        shows = {r["row"] for r in status[way]["differs"] if r[key] != r["tcp"]}
        for row in seen["direct"]:
            differs = seen[way][row] != seen["tidegated"][row]
            if differs and row not in lists:
                wrong.append(f"{row}, {way}: {seen[way][row]}, and `status` does not list it")
            if not differs and row in shows - HIDDEN - may:
                wrong.append(f"{row}, {way}: `status` lists it, but it is alike")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(not os.environ.get("TIDEGATE_FULL"), reason="more than 4 GiB: full tier")
@pytest.mark.parametrize("way", WAYS[1:])
def test_more_than_4_gib_each_way(daemon, driver, way):
    """Sequence numbers and 32-bit counters go round, in the kernel and in the daemon."""
    port = harness.free_port()
    d, _ = start(daemon, port, way)
    got = drive(driver, "stream", port, 4500, f"{d.cgroup}/cgroup.procs", seconds=900)
    assert got == {"sent": f"{4500 << 20} bytes, in order, end"}, got
    wait_for("the session's end", lambda: not d.ctl("session.list"), 60)
    path, = d.recordings()
    done = harness.verify(d, path)
    assert done.returncode == 0, done.stdout
    d.stop_process()
    os.unlink(path)
