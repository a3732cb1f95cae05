# SPDX-License-Identifier: MIT
"""The leg to the server is TLS, and the server is who it should be, or there is no session."""
import hashlib
import os
import pwd
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

import harness
import pytest
from harness import policy, wait_for

SECRET = "tide-S3cret-71f0aa52"
SSL_REQUEST = struct.pack(">II", 8, 80877103)
CANCEL_CODE = struct.pack(">I", 80877102)


# ------------------------------------------------------------------ certificates

def openssl(d, *args):
    subprocess.run(["openssl", *args], cwd=d, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def make_key(d, name):
    openssl(d, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")


def make_ca(d, name):
    make_key(d, name)
    openssl(d, "req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-days", "30",
            "-out", f"{name}.pem")


def make_cert(d, name, ca, cn, san, end=None):
    make_key(d, name)
    openssl(d, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={cn}", "-out", f"{name}.csr")
    with open(f"{d}/{name}.ext", "w") as f:
        f.write(f"subjectAltName={san}\n" if san else "basicConstraints=CA:FALSE\n")
    if not end:
        openssl(d, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return
    with open(f"{d}/ca.conf", "w") as f:
        f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
                "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
    open(f"{d}/index.txt", "w").close()
    openssl(d, "ca", "-batch", "-config", "ca.conf", "-cert", f"{ca}.pem", "-keyfile", f"{ca}.key",
            "-in", f"{name}.csr", "-rand_serial", "-startdate", "20200101000000Z", "-enddate", end,
            "-extfile", f"{name}.ext", "-notext", "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def pki():
    d = tempfile.mkdtemp(prefix="tidegate-tls-")
    os.chmod(d, 0o755)
    make_ca(d, "ca")
    make_ca(d, "other")
    make_cert(d, "good", "ca", "db", "DNS:orders.db.internal,IP:127.0.0.1")
    make_cert(d, "twin", "ca", "db", "DNS:orders.db.internal,IP:127.0.0.1")
    make_cert(d, "name", "ca", "db", "DNS:billing.db.internal,IP:127.0.0.2")
    make_cert(d, "common", "ca", "orders.db.internal", None)
    make_cert(d, "foreign", "other", "db", "IP:127.0.0.1")
    make_cert(d, "expired", "ca", "db", "IP:127.0.0.1", end="20200201000000Z")
    make_cert(d, "client", "ca", "shop_cert", None)
    for name in os.listdir(d):
        os.chmod(f"{d}/{name}", 0o600 if name.endswith(".key") else 0o644)
    yield d
    shutil.rmtree(d)


# ----------------------------------------------------------------------- servers

HBA = """local all postgres trust
host all postgres 127.0.0.1/32 trust
hostssl shop shop_cert 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


class Tls(harness.Postgres):
    """Lets nobody in without TLS but its superuser."""

    def __init__(self, pki):
        self.own = tempfile.mkdtemp(prefix="tidegate-tlspg-")
        os.chmod(self.own, 0o755)
        self.pki = pki
        self.put("good")
        super().__init__(auth="scram-sha-256", options=[
            "ssl=on", f"ssl_cert_file={self.own}/server.pem", f"ssl_key_file={self.own}/server.key",
            f"ssl_ca_file={pki}/ca.pem", "log_connections=on"])
        with open(f"{self.data}/pg_hba.conf", "w") as f:
            f.write(HBA)
        os.kill(self.pid, signal.SIGHUP)
        harness.make_shop_as_owner(self)
        self.sql(f"CREATE ROLE shop_ro LOGIN PASSWORD '{SECRET}'; CREATE ROLE shop_cert LOGIN;")
        self.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO shop_ro, shop_cert;"
                 "GRANT ALL ON notes, notes_id_seq TO shop_ro", db="shop")

    def put(self, name):
        entry = pwd.getpwnam("postgres")
        for kind in ("pem", "key"):
            to = f"{self.own}/server.{kind}"
            shutil.copy(f"{self.pki}/{name}.{kind}", to)
            os.chown(to, entry.pw_uid, entry.pw_gid)
            os.chmod(to, 0o600)

    def log(self):
        with open(f"{self.data}/log", errors="replace") as f:
            return f.read()

    def stop(self):
        super().stop()
        shutil.rmtree(self.own)


@pytest.fixture(scope="module")
def server(pki):
    s = Tls(pki)
    yield s
    s.stop()


def listening():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(16)
    return s, s.getsockname()[1]


def each(listener, serve):
    def run():
        while True:
            c, _ = listener.accept()
            threading.Thread(target=lambda: serve(c), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()


def server_side(pki, cert, version=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(f"{pki}/{cert}.pem", f"{pki}/{cert}.key")
    if version:
        c.minimum_version = c.maximum_version = version
        c.set_ciphers("ALL:@SECLEVEL=0")
    return c


def stub(pki, cert=None, answer=b"S", version=None, closes=False):
    """Says @answer to a request for TLS, and goes on from there."""
    listener, port = listening()

    def serve(s):
        with s:
            try:
                s.recv(8, socket.MSG_WAITALL)
                s.sendall(answer)
                if cert:
                    with server_side(pki, cert, version).wrap_socket(s, server_side=True) as t:
                        t.recv(1000)
                else:
                    while s.recv(1000) and not closes:
                        pass
            except OSError:
                pass
    each(listener, serve)
    return port


# ---------------------------------------------------------------- configurations

@pytest.fixture
def secrets(pki):
    path = tempfile.mkdtemp(prefix="tidegate-tls-secrets-")
    os.chmod(path, 0o711)
    with open(f"{path}/shop.secret", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(SECRET + "\n")
    for name in ("client.pem", "client.key"):
        shutil.copy(f"{pki}/{name}", path)
        os.chmod(f"{path}/{name}", 0o600)
    yield path
    shutil.rmtree(path)


def tls(pki, extra="", ca="ca.pem"):
    return f"tls: {{ ca_file: {pki}/{ca}{extra} }}\n"


def own(secrets, user="shop_ro", text=""):
    text = text or f"password_file: {secrets}/shop.secret"
    return f"credentials:\n  own: {{ user: {user}, {text} }}\n"


def conf(port, pki, secrets, extra="", target="", credential=None, **kw):
    return (credential or own(secrets)) + policy(
        port, target="credential: own\n" + tls(pki, extra) + target, **kw)


def psql(d, port, *args, password="nonsense", user="agent", **kw):
    return d.run(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d",
                  "shop", *args], env=dict(os.environ, PGPASSWORD=password), **kw).stdout


WHO = "SELECT s.ssl, s.version, current_user FROM pg_stat_ssl s WHERE pid = pg_backend_pid()"


def sleeps(server):
    return server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND "
                      "usename = 'shop_ro' AND state = 'active'") == "1\n"


# ------------------------------------------------------------------------- tests

def test_main(daemon, pki, server, secrets):
    d = daemon(conf(server.port, pki, secrets), workers=1)
    assert psql(d, server.port, "-c", WHO) == "t|TLSv1.3|shop_ro\n", d.log()
    busy = d.psql_later(server.port, "-c", "SELECT pg_sleep(60)")
    wait_for("the statement", lambda: sleeps(server))
    row = d.ctl("session.list")[0]
    show = d.ctl("session.show", id=row["id"])["live"]
    assert show["tls"]["version"] == "TLSv1.3" and len(show["tls"]["certificate_sha256"]) == 64, show
    busy.send_signal(signal.SIGINT)
    out, _ = busy.communicate(timeout=20)
    assert "canceling statement" in out
    assert d.ctl("target.list")[0]["tls"] == "verified"
    text = d.record_text()
    assert b'"what":"tls","version":"TLSv1.3"' in text
    assert SECRET.encode() not in text and b"SCRAM" not in text and SECRET not in d.log()


def test_only_the_newest_and_by_name(daemon, pki, server, secrets):
    d = daemon(conf(server.port, pki, secrets, ", server_name: orders.db.internal, min_version: '1.3'"),
               workers=1)
    assert psql(d, server.port, "-c", WHO) == "t|TLSv1.3|shop_ro\n", d.log()


def test_the_agents_own_login_passes_through(daemon, pki, server):
    """libpq gives up when it is offered what only TLS can have."""
    d = daemon(policy(server.port, target=tls(pki)), workers=1)
    assert psql(d, server.port, "-c", WHO, password="pw-of-agent") == "t|TLSv1.3|agent\n", d.log()
    assert "password authentication failed" in psql(d, server.port, "-c", WHO, password="wrong")


def test_a_certificate_logs_in(daemon, pki, server, secrets):
    text = f"certificate_file: {secrets}/client.pem, key_file: {secrets}/client.key"
    d = daemon(conf(server.port, pki, secrets, credential=own(secrets, "shop_cert", text)), workers=1)
    assert psql(d, server.port, "-c", WHO) == "t|TLSv1.3|shop_cert\n", d.log()
    assert "method=cert" in server.log()
    # The agent cannot be somebody else with it, and it is asked for by nobody else.
    assert psql(d, server.port, "-c", WHO, user="shop_ro") == "t|TLSv1.3|shop_cert\n"
    os.kill(d.children()["keyd"], signal.SIGKILL)
    assert psql(d, server.port, "-c", WHO) == "t|TLSv1.3|shop_cert\n", d.log()


BAD = {
    "none": ({"answer": b"N"}, "the target does not offer TLS", "upstream_no_tls"),
    "error": ({"answer": b"EFATAL\0"}, "did not answer whether it speaks TLS", "upstream_tls"),
    "nothing": ({"answer": b""}, "did not answer in time", "upstream_timeout"),
    "injected": ({"cert": "good", "answer": b"S" + harness.HELLO}, "bytes in clear text behind",
                 "upstream_tls"),
    "injected byte": ({"cert": "good", "answer": b"SR"}, "bytes in clear text behind", "upstream_tls"),
    "no handshake": ({"answer": b"S"}, "did not answer in time", "upstream_timeout"),
    "closed": ({"answer": b"S", "closes": True}, "it closed the connection in the handshake",
               "upstream_tls"),
    "foreign": ({"cert": "foreign"}, "unable to get local issuer certificate", "upstream_certificate"),
    "expired": ({"cert": "expired"}, "certificate has expired", "upstream_certificate"),
    "name": ({"cert": "name"}, "it is for billing.db.internal, and not for 127.0.0.1",
             "upstream_certificate"),
    "old": ({"cert": "good", "version": ssl.TLSVersion.TLSv1_1}, "TLS with the target failed",
            "upstream_tls"),
}


@pytest.fixture(scope="module")
def bad_servers(pki):
    return {name: stub(pki, **how) for name, (how, _, _) in BAD.items()}


def many(ports, pki, secrets, extra=""):
    """A target for each."""
    text = own(secrets) + "agents:\n  bot: { cgroup: $CGROUP }\ntargets:\n"
    for name, port in ports.items():
        text += (f"  {name.replace(' ', '-')}: {{ address: '127.0.0.1:{port}', protocol: postgresql, "
                 f"credential: own, connect_timeout: 1s, tls: {{ ca_file: {pki}/ca.pem{extra} }} }}\n")
    return text + ("policy:\n  - { agents: [bot], targets: ['*'], access: { approval: none }, "
                   "commands: [{ effect: any, do: allow }] }\n")


def test_bad_servers_are_told_and_counted(daemon, pki, secrets, bad_servers):
    d = daemon(many(bad_servers, pki, secrets), workers=1)
    for name, (_, words, reason) in BAD.items():
        before = d.counters().get(reason, 0)
        out = psql(d, bad_servers[name], "-c", "SELECT 1")
        assert words in out, (name, out, d.log())
        assert d.counters()[reason] == before + 1, name
    assert SECRET not in d.log()
    wait_for("the record", lambda: b'"upstream_certificate"' in d.record_text())


def test_names_and_pins(daemon, pki, server, secrets):
    """Which name counts, and which key: in one daemon after the other, by a reload."""
    key = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], check=True,
                         capture_output=True, input=subprocess.run(
                             ["openssl", "x509", "-in", f"{pki}/good.pem", "-pubkey", "-noout"],
                             check=True, capture_output=True).stdout).stdout
    pin = hashlib.sha256(key).hexdigest()
    text = conf(server.port, pki, secrets)
    d = daemon(text, workers=1)
    rows = [(f"server_name: billing.db.internal", "somebody else's"),
            (f"pin: {pin}", "t|TLSv1.3"), (f"pin: ['{'0' * 64}', {pin}]", "t|TLSv1.3"),
            (f"pin: '{'0' * 64}'", "its key is none that `pin` names"),
            ("server_name: 127.0.0.2", "somebody else's"),
            ("server_name: 127.0.0.1", "t|TLSv1.3"), ("mode: verified", "t|TLSv1.3")]
    was = f"{pki}/ca.pem"
    for extra, words in rows:
        now = f"{pki}/ca.pem, {extra}"
        harness.reload_with(d, was + " }", now + " }")
        was = now
        wait_for(extra, lambda: words in psql(d, server.port, "-c", WHO), 5)


# -------------------------------------------------------------- a man in the middle

def relay(a, b, seen=None, change=None):
    """Both ways until one ends; @seen gets what @a says, @change may change what @b says."""
    while True:
        ready = [s for s in (a, b) if isinstance(s, ssl.SSLSocket) and s.pending()] or \
            select.select([a, b], [], [], 20)[0]
        if not ready:
            return
        for s in ready:
            try:
                data = s.recv(65536)
            except OSError:
                data = b""
            if not data:
                return
            if s is a and seen is not None:
                seen.append(data)
            (b if s is a else a).sendall(change(data) if change and s is b else data)


def tap(port):
    """Passes everything on as it is: its port, and what each connection has said."""
    listener, own_port = listening()
    said = []

    def serve(s):
        mine = []
        said.append(mine)
        with s, socket.create_connection(("127.0.0.1", port)) as up:
            relay(s, up, seen=mine)
    each(listener, serve)
    return own_port, said


def middle(pki, port, cert, change=None):
    """Ends TLS with a certificate that is trusted, too, and speaks TLS to the server."""
    listener, own_port = listening()

    def serve(s):
        try:
            s.recv(8, socket.MSG_WAITALL)
            s.sendall(b"S")
            c = ssl.create_default_context()
            c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
            with server_side(pki, cert).wrap_socket(s, server_side=True) as t, \
                    socket.create_connection(("127.0.0.1", port)) as up:
                up.sendall(SSL_REQUEST)
                up.recv(1)
                with c.wrap_socket(up) as u:
                    relay(t, u, change=change)
        except OSError:
            pass
    each(listener, serve)
    return own_port


OFFER = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


def test_the_login_is_bound_to_the_channel(daemon, pki, server, secrets):
    """Who has a certificate of the same authority does not get into the middle."""
    port = middle(pki, server.port, "twin")
    d = daemon(conf(port, pki, secrets), workers=1)
    out = psql(d, port, "-c", WHO)
    assert "does not accept Tidegate's credential" in out or "breaks the protocol" in out, out
    wait_for("the server's words", lambda: "SCRAM channel binding check failed" in server.log())


def test_nobody_takes_the_binding_away(daemon, pki, server, secrets):
    def strip(data):
        if OFFER not in data:
            return data
        left = b"SCRAM-SHA-256\0\0"
        return data[:1] + struct.pack(">I", 8 + len(left)) + data[5:9] + left
    port = middle(pki, server.port, "good", strip)
    d = daemon(conf(port, pki, secrets), workers=1)
    psql(d, port, "-c", WHO)
    wait_for("the server's words",
             lambda: "SCRAM channel binding negotiation error" in server.log())


def test_nothing_of_a_cancel_is_in_clear(daemon, pki, server, secrets):
    port, said = tap(server.port)
    d = daemon(conf(port, pki, secrets), workers=1)
    for _ in range(2):
        busy = d.psql_later(port, "-c", "SELECT pg_sleep(60)")
        wait_for("the statement", lambda: sleeps(server))
        busy.send_signal(signal.SIGINT)
        out, _ = busy.communicate(timeout=20)
        assert "canceling statement" in out
    assert len(said) == 4
    for mine in said:
        assert b"".join(mine).startswith(SSL_REQUEST)
        assert CANCEL_CODE not in b"".join(mine) and b"shop_ro" not in b"".join(mine)


# ------------------------------------------------------------------------- bytes

def gate_conf(port, pki, secrets, gate, **kw):
    return conf(port, pki, secrets, target=f'listen: "127.0.0.1:{gate}"\n', **kw).replace(
        "bot: {", "bot: { source: [127.0.0.1/32],")


BULK = "SELECT repeat(md5(i::text), 32) FROM generate_series(1, 100000) i"


def test_a_hundred_megabytes(daemon, pki, server, secrets):
    d = daemon(conf(server.port, pki, secrets), workers=1, journal="64MiB")
    want = hashlib.md5(server.sql(BULK + ";").encode()).hexdigest()
    out = d.run(["sh", "-c", f"psql -X -A -t -h 127.0.0.1 -p {server.port} -U agent -d shop "
                 f"-c \"{BULK}\" | md5sum"], timeout=120).stdout
    assert out.split()[0] == want, d.log()


def test_copy_both_ways(daemon, pki, server, secrets):
    d = daemon(conf(server.port, pki, secrets), workers=1, journal="64MiB")
    rows = "".join(f"{i}\t{'line %d ' % i * 20}\n" for i in range(60000))
    out = psql(d, server.port, "-c", "COPY notes FROM STDIN", input=rows)
    assert out == "COPY 60000\n", out + d.log()
    assert psql(d, server.port, "-c", "COPY (SELECT * FROM notes ORDER BY id) TO STDOUT") == rows
    server.sql("TRUNCATE notes", db="shop")


def test_a_slow_reader_stalls_the_server(daemon, pki, server, secrets):
    gate = harness.free_port()
    d = daemon(gate_conf(server.port, pki, secrets, gate), need_steering=False, workers=1,
               journal="64MiB")
    pid = d.children()["worker 0"]
    c = harness.Raw(gate, rcvbuf=65536)
    before = harness.private_kib(pid)
    c.query(BULK)
    time.sleep(1.5)
    harness.assert_grew(harness.private_kib(pid) - before, 8 << 10)
    other = harness.Raw(gate)
    other.query("SELECT 1")
    other.until(b"Z")
    rows = sum(kind == b"D" for kind, _ in c.until(b"Z"))
    assert rows == 100000
    # A server that reads slowly: what the client sends waits with the client.
    c.query("COPY notes FROM STDIN")
    c.until(b"G")
    c.send(*[harness.message(b"d", b"%d\t" % i + b"x" * 8000 + b"\n") for i in range(1, 3000)])
    c.send(harness.message(b"c"))
    c.until(b"Z")
    assert server.sql("SELECT count(*) FROM notes", db="shop") == "2999\n"
    server.sql("TRUNCATE notes", db="shop")


def test_the_ends_of_sessions(daemon, pki, server, secrets):
    gate = harness.free_port()
    d = daemon(gate_conf(server.port, pki, secrets, gate), need_steering=False, workers=1)
    before = len(server.log())
    for how in ("terminate", "close", "half"):
        c = harness.Raw(gate)
        if how == "terminate":
            c.send(harness.message(b"X"))
        elif how == "half":
            c.s.shutdown(socket.SHUT_WR)
        if how != "close":
            assert c.rest() == b""
        c.close()
        wait_for("the end", lambda: not d.ctl("session.list"))
    # And the server's: its words come through, then the end.
    c = harness.Raw(gate)
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop_ro'")
    assert b"terminating connection due to administrator command" in c.rest()
    wait_for("the end", lambda: not d.ctl("session.list"))
    log = server.log()[before:]
    assert "unexpected EOF" not in log and "SSL error" not in log and "reset by peer" not in log, log


# --------------------------------------------------- what else speaks to the server

def test_masks_and_their_catalog(daemon, pki, server, secrets):
    target = "catalog: { user: tidegate_catalog, password_file: $DIR/catalog.password }\n"
    d = daemon(conf(server.port, pki, secrets, target=target,
                    mask=["{ column: customers.ssn, as: last4 }"]), workers=1)
    out = psql(d, server.port, "-c", "SELECT ssn, name FROM customers WHERE id = 1")
    assert out == "***-**-6789|Ada Lovelace\n", out + d.log()


def test_roles_of_a_grant(daemon, pki, server, secrets):
    server.sql(f"CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{SECRET}';"
               "GRANT pg_read_all_data TO maker WITH ADMIN OPTION; GRANT CONNECT ON DATABASE shop TO maker")
    text = (f"credentials:\n  admin: {{ user: maker, password_file: {secrets}/shop.secret }}\n"
            "  own: { ephemeral_role: { admin: admin, grants: [pg_read_all_data] } }\n")
    d = daemon(conf(server.port, pki, secrets, credential=text), workers=1)
    out = psql(d, server.port, "-c", WHO)
    assert out.startswith("t|TLSv1.3|tidegate_") or out.startswith("t|TLSv1.3|tg_"), out + d.log()
    # The same server without a certificate that is trusted makes none.
    harness.reload_with(d, f"{pki}/ca.pem", f"{pki}/other.pem")
    wait_for("a refusal", lambda: "no role could be made" in psql(d, server.port, "-c", WHO))
    assert "not trusted" in d.log()
    harness.reload_with(d, f"{pki}/other.pem", f"{pki}/ca.pem")
    wait_for("its end", lambda: server.sql(
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tg%' OR rolname LIKE 'tidegate\\_%' AND "
        "rolname <> 'tidegate_catalog'") == "0\n", 30)


# ----------------------------------------------------------------------- reloads

def test_another_authority_by_a_reload(daemon, pki, server, secrets):
    port = middle(pki, server.port, "foreign")  # of the other authority
    shutil.copy(f"{pki}/ca.pem", f"{secrets}/trusted.pem")
    os.chmod(secrets, 0o755)
    text = conf(port, secrets, secrets).replace(f"{secrets}/ca.pem", f"{secrets}/trusted.pem")
    d = daemon(text, workers=1)
    assert "not trusted" in psql(d, port, "-c", WHO)
    with open(f"{secrets}/trusted.pem", "w") as f:
        f.write("nothing\n")
    with pytest.raises(harness.Refused, match=r"tidegate.yaml:\d+:\d+: `ca_file` of target `shop` "
                       "cannot be used: .*: it holds no certificate in PEM form"):
        d.ctl("policy.reload")
    assert "not trusted" in psql(d, port, "-c", WHO)
    shutil.copy(f"{pki}/other.pem", f"{secrets}/trusted.pem")
    d.ctl("policy.reload")
    # Trusted now; but the login is bound to the server's own certificate.
    assert wait_for("trust", lambda: (out := psql(d, port, "-c", WHO)) and "not trusted" not in out)
    # It was there at a start, and is not at the next: its target alone is refused, and says so.
    os.unlink(f"{secrets}/trusted.pem")
    d.stop_process()
    if d.cgroup:
        os.mkdir(d.cgroup)
    d.start()
    assert "its ca_file cannot be used" in psql(d, port, "-c", WHO)
    assert "trusted.pem (ca_file of target shop) cannot be used" in d.log()


def test_tls_ends_what_has_none(daemon, pki, server, secrets):
    """A session in clear text does not outlive the decision that there are none."""
    server.sql("SELECT 1")
    text = policy(server.port)
    d = daemon(text, workers=1)
    busy = d.psql_later(server.port, "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)", user="postgres",
                        db="postgres")
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"])
    harness.reload_with(d, "protocol: postgresql", "protocol: postgresql\n    " + tls(pki).strip())
    out, _ = busy.communicate(timeout=20)
    assert "the policy no longer allows this session" in out, out


def test_policy_check_looks_at_the_file(daemon, pki, server, secrets):
    path = f"{secrets}/check.yaml"
    with open(path, "w") as f:
        f.write(conf(server.port, pki, secrets).replace("$CGROUP", "/x"))
    check = [f"{harness.BUILD}/tidegate", "policy", "check", path]
    assert subprocess.run(check, capture_output=True, text=True).returncode == 0
    with open(path, "w") as f:
        f.write(conf(server.port, pki, secrets).replace("$CGROUP", "/x").replace("ca.pem", "no.pem"))
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 1 and "no.pem: No such file or directory" in done.stderr, done.stderr


def test_an_upgrade_keeps_it(daemon, pki, server, secrets):
    d = daemon(conf(server.port, pki, secrets), workers=1)
    busy = d.psql_later(server.port, "-A", "-t", "-c", "SELECT pg_sleep(3)", "-c", WHO)
    wait_for("the session", lambda: [s for s in d.ctl("session.list") if s["state"] == "run"])
    d.ctl("daemon.upgrade", timeout=30)
    assert psql(d, server.port, "-c", WHO) == "t|TLSv1.3|shop_ro\n", d.log()
    out, _ = busy.communicate(timeout=20)
    assert "t|TLSv1.3|shop_ro" in out
