# SPDX-License-Identifier: MIT
"""The test identity provider (idp/op.mjs) as a context, and its admin port."""
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request


def assertions(installed, keys, **env):
    """The cases of idp/saml-make.mjs by name; key and certificate of the issuer lie in KEYS."""
    with tempfile.TemporaryDirectory(prefix="tidegate-saml-") as out:
        subprocess.run(["node", os.path.join(installed, "saml-make.mjs"), keys, out],
                       env={**os.environ, **env}, check=True, stderr=subprocess.PIPE)
        cases = {}
        for name in sorted(os.listdir(out)):
            with open(os.path.join(out, name), encoding="utf-8") as f:
                cases[name.removesuffix(".xml")] = f.read()
    return cases


class Idp:
    """Runs op.mjs out of INSTALLED (where npm put oidc-provider)."""

    def __init__(self, installed, **env):
        self.installed = installed
        self.dir = tempfile.mkdtemp(prefix="tidegate-idp-")
        self.proc = subprocess.Popen(
            ["node", os.path.join(installed, "op.mjs")],
            env={**os.environ, "OP_DIR": self.dir, **env},
            stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(self.dir, "op.log"), "w", encoding="utf-8"),
        )
        ready = os.path.join(self.dir, "ready.json")
        for _ in range(300):
            if os.path.exists(ready):
                break
            if self.proc.poll() is not None:
                raise RuntimeError("the provider did not start, see " + self.dir + "/op.log")
            time.sleep(0.1)
        with open(ready, encoding="utf-8") as f:
            self.__dict__.update(json.load(f))

    def admin_call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.admin + path, data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as r:
            return json.load(r)

    def fetch(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(self.issuer + path, timeout=10)

    def decide(self, verdict, **more):
        """The person's word about what was asked last."""
        return self.admin_call(f"/requests/last/{verdict}", more)

    def asked(self):
        return self.admin_call("/requests")[-1]

    def token(self, **more):
        return self.admin_call("/token", more)["token"]

    def assertions(self, **env):
        """SAML assertions by name, signed by saml-idp.crt.pem in dir; see idp/saml-make.mjs."""
        return assertions(self.installed, self.dir, **env)

    def faults(self, *rows):
        self.admin_call("/faults", list(rows))

    def rotate(self, keep):
        return self.admin_call("/rotate", {"keep": keep})["kids"]

    def stats(self):
        return self.admin_call("/stats")

    def file(self, name):
        return os.path.join(self.dir, name)

    def stop(self):
        self.proc.terminate()
        self.proc.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.dir)
