# SPDX-License-Identifier: MIT
"""What the kernel says of the daemon's children: whose they are, and what they can still do."""
import pwd

import harness
import pytest
from harness import policy, wait_for
from names_server import NameServer, a
from test_creds import secret_file, secrets  # noqa: F401: a fixture

ACCOUNTS = {"worker": "tidegate", "keyd": "tidegate-keyd", "authd": "tidegate-authd",
            "named": "tidegate-named", "roled": "tidegate"}
NONE = "0" * 16


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return {k: v.strip() for k, v in (line.split(":", 1) for line in f)}


def children(d):
    """{role: [pid]}; the names of workers are numbered."""
    found = {}
    for name, pid in d.children().items():
        found.setdefault(name.split()[0], []).append(pid)
    return found


@pytest.fixture
def all_roles(daemon, pg, secrets):  # noqa: F811
    """A daemon that has a child of every kind."""
    secret_file(secrets, "not-asked-for", "admin.secret")
    saml = "{ issuer: i, audience: a, recipient: r, certificate_file: $DIR/idp.pem }"
    names = NameServer()
    names.zone["db.internal"] = [a("127.0.0.1")]
    config = (f'dns: {{ servers: ["{names.address}"], allow_special: [127.0.0.0/8] }}\n'
              f"approvals:\n  own: {{ by: saml, saml: {saml} }}\n"
              f"credentials:\n  admin: {{ user: root, password_file: {secrets}/admin.secret }}\n"
              "  jit: { ephemeral_role: { admin: admin, grants: [reader] } }\n" +
              policy(pg.port, access="builtin", target="credential: jit").replace(
                  f'"127.0.0.1:{pg.port}"', f'"db.internal:{pg.port}"'))
    yield daemon(config)
    names.stop()


def test_children(all_roles):
    d = all_roles
    wait_for("all", lambda: children(d).keys() == ACCOUNTS.keys())
    found = children(d)
    assert {role: len(pids) for role, pids in found.items()} == {**dict.fromkeys(ACCOUNTS, 1),
                                                                 "worker": 2}
    for role, pids in found.items():
        account = pwd.getpwnam(ACCOUNTS[role])
        for pid in pids:
            # keyd reads its files before it gives up root.
            wait_for(f"the account of {role}", lambda: status_of(pid)["Uid"].split()[0] != "0")
            if "address" not in harness.SANITIZERS:
                wait_for(f"the sandbox of {role}", lambda: status_of(pid)["Seccomp"] == "2")
                assert status_of(pid)["NoNewPrivs"] == "1", role
            s = status_of(pid)
            assert s["Uid"].split() == [str(account.pw_uid)] * 4, role
            assert s["Gid"].split() == [str(account.pw_gid)] * 4, role
            assert s["Groups"] == "", role
            caps = {k: v for k, v in s.items() if k.startswith("Cap")}
            assert caps == dict.fromkeys(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"],
                                         NONE), role
    assert "its sandbox forbids" not in d.log()
