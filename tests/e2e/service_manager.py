# SPDX-License-Identifier: MIT
"""As much of systemd's notify socket and file descriptor store as sd_notify(3) promises."""
import array
import os
import selectors
import socket
import sys
import threading

FIRST = 3


class Manager:
    """Keeps what it is sent, by name, and starts a daemon with what it has."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0tidegate-test-" + os.urandom(8).hex())
        self.env = {"NOTIFY_SOCKET": "@" + self.sock.getsockname()[1:].decode()}
        self.store = []  # (name, descriptor)
        self.said = []
        self.wake = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        sel = selectors.DefaultSelector()
        sel.register(self.sock, selectors.EVENT_READ)
        sel.register(self.wake[0], selectors.EVENT_READ)
        while True:
            for key, _ in sel.select():
                if key.fileobj is not self.sock:
                    return
                self.take(*self.sock.recvmsg(4096, socket.CMSG_SPACE(64 * 4))[:2])

    def take(self, data, control):
        lines = dict(line.split("=", 1) for line in data.decode().splitlines())
        fds = array.array("i")
        for _, kind, body in control:
            assert kind == socket.SCM_RIGHTS
            fds.frombytes(body)
        name = lines.get("FDNAME", "stored")
        assert ":" not in name and len(name) < 256 and name.isprintable()
        if "FDSTORE" in lines:
            self.store += [(name, fd) for fd in fds]
        if "FDSTOREREMOVE" in lines:
            for entry in [e for e in self.store if e[0] == name]:
                self.store.remove(entry)
                os.close(entry[1])
        self.said.append(lines)

    def names(self):
        return sorted(name for name, _ in self.store)

    def put(self, name, fd):
        """Somebody else's."""
        self.store.append((name, fd))

    def replace(self, name, fd):
        self.store = [(n, fd if n == name else old) for n, old in self.store]

    def forget(self):
        """As after a plain stop."""
        for _, fd in self.store:
            os.close(fd)
        self.store = []

    def argv(self):
        """In front of what is to be started."""
        fds = [str(fd) for _, fd in self.store]
        return ["/usr/bin/python3", os.path.abspath(__file__), ":".join(n for n, _ in self.store),
                ",".join(fds)]

    def fds(self):
        return [fd for _, fd in self.store]

    def close(self):
        os.close(self.wake[1])
        self.thread.join()
        self.forget()
        self.sock.close()


def start(names, fds, argv):
    """In the process that is to be the daemon."""
    fds = [int(fd) for fd in fds.split(",") if fd]
    high = [os.dup2(fd, 500 + i, inheritable=False) for i, fd in enumerate(fds)]
    for fd in fds:
        os.close(fd)
    for i, fd in enumerate(high):
        os.dup2(fd, FIRST + i, inheritable=True)
    if fds:
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),
                          LISTEN_FDNAMES=names)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2], sys.argv[3:])
