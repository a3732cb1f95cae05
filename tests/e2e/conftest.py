# SPDX-License-Identifier: MIT
import os

import pytest

import harness


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="needs root")
        for item in items:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def pg():
    server = harness.Postgres()
    harness.make_shop(server)
    yield server
    server.stop()


@pytest.fixture
def daemon(request):
    """A factory: daemon(config, ...); what it makes is stopped at the end of the test."""
    made = []

    def make(config, need_steering=True, **kw):
        d = harness.Daemon(config, **kw)
        made.append(d)
        if need_steering and not d.steering:
            pytest.skip("no BPF on this host: " + d.ctl("status")["bpf"])
        return d
    yield make
    for d in made:
        if request.node.rep_call.failed if hasattr(request.node, "rep_call") else False:
            print(d.log())
            d.kill()  # its sessions may never end
        d.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "rep_" + report.when, report)


@pytest.fixture
def gateway(daemon, pg):
    """As daemon, with a listener (d.gate) for this host: this process is no agent's child."""
    def make(port=None, **kw):
        gate = harness.free_port()
        target = f'listen: "127.0.0.1:{gate}"\n' + kw.pop("target", "")
        config = harness.policy(port or pg.port, target=target, **kw.pop("policy", {})).replace(
            "bot: {", "bot: { source: [127.0.0.1/32],")
        d = daemon(config, need_steering=False, **kw)
        d.gate = gate
        return d
    return make
