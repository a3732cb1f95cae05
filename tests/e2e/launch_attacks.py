# SPDX-License-Identifier: MIT
"""What an agent tries once it runs: each line of output is `NAME RESULT`, errno names or "ok"."""
import ctypes
import errno
import fcntl
import os
import platform
import socket
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
NR = {"x86_64": dict(bpf=321, io_uring_setup=425, unshare=272, setns=308, clone3=435,
                     pidfd_getfd=438, pidfd_open=434, ptrace=101, process_vm_readv=310,
                     perf_event_open=298, request_key=249, capset=126, socket=41,
                     socketpair=53, clone=56),
      "aarch64": dict(bpf=280, io_uring_setup=425, unshare=97, setns=268, clone3=435,
                      pidfd_getfd=438, pidfd_open=434, ptrace=117, process_vm_readv=270,
                      perf_event_open=241, request_key=218, capset=91, socket=198,
                      socketpair=199, clone=220)}[platform.machine()]


def call(name, *args):
    libc.syscall.restype = ctypes.c_long
    r = libc.syscall(ctypes.c_long(NR[name]), *[
        a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_long(a) for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), name)
    return r


def sock(family, kind, proto=0):
    return lambda: socket.socket(family, kind, proto).close()


def keystroke():
    fcntl.ioctl(0, 0x5412, b"x")


def leave():
    with open(sys.argv[1], "w") as f:
        f.write("0")


def setuid_program():
    """argv[2] is root's `id` with the set-user-id bit."""
    out = os.popen(sys.argv[2] + " -u").read().strip()
    if out == str(os.getuid()):
        raise OSError(errno.EPERM, "no new privileges")


def capabilities():
    with open("/proc/self/status") as f:
        got = [line.split()[1] for line in f if line.startswith("Cap")]
    if set(got) == {"0" * 16}:
        raise OSError(errno.EPERM, "none")


def chown_to_root():
    with tempfile.NamedTemporaryFile(dir="/tmp") as f:
        os.chown(f.name, 0, 0)


def other_descriptors():
    fds = [int(fd) for fd in os.listdir("/proc/self/fd")]
    left = [fd for fd in fds if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
    if not left:
        raise OSError(errno.EBADF, "none")


def x32():
    """Numbers of calls are others there: the rules would not fit."""
    pid = os.fork()
    if pid == 0:
        libc.syscall(ctypes.c_long(0x40000000 | 39))
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        raise OSError(errno.EPERM, "killed")


ATTACKS = {
    "descriptors": other_descriptors,
    "packet": sock(17, socket.SOCK_RAW, 3),
    "packet_dgram": sock(17, socket.SOCK_DGRAM, 0),
    "sock_packet": sock(socket.AF_INET, 10, 3),
    "raw": sock(socket.AF_INET, socket.SOCK_RAW, 6),
    "raw6": sock(socket.AF_INET6, socket.SOCK_RAW, 58),
    "raw_cloexec": sock(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 255),
    "vsock": sock(40, socket.SOCK_STREAM),
    "xdp": sock(44, socket.SOCK_RAW),
    "alg": sock(38, socket.SOCK_SEQPACKET),
    "bluetooth": sock(31, socket.SOCK_RAW),
    "family_high_bits": lambda: call("socket", (1 << 32) | 17, socket.SOCK_DGRAM, 0),
    "socketpair_tipc": lambda: call("socketpair", 30, 1, 0, ctypes.create_string_buffer(8)),
    "netlink_diag": sock(16, socket.SOCK_RAW, 4),
    "netlink_netfilter": sock(16, socket.SOCK_RAW, 12),
    "io_uring": lambda: call("io_uring_setup", 4, ctypes.create_string_buffer(120)),
    "bpf": lambda: call("bpf", 7, ctypes.create_string_buffer(128), 128),
    "user_namespace": lambda: call("unshare", 0x10000000),
    "net_namespace": lambda: call("unshare", 0x40000000),
    "user_and_net": lambda: call("unshare", 0x50000000),
    "clone_newuser": lambda: call("clone", 0x10000000 | 17, 0, 0, 0, 0),
    "clone3": lambda: call("clone3", ctypes.create_string_buffer(88), 1),
    "setns": lambda: call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "pidfd_getfd": lambda: call("pidfd_getfd", call("pidfd_open", os.getppid(), 0), 0, 0),
    "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
    "process_vm_readv": lambda: call("process_vm_readv", os.getpid(), 0, 0, 0, 0, 0),
    "perf_event_open": lambda: call("perf_event_open", ctypes.create_string_buffer(128), 0, -1,
                                    -1, 0),
    "request_key": lambda: call("request_key", b"dns_resolver", b"x", 0, 0),
    "keystroke": keystroke,
    "keystroke_high_bits": lambda: fcntl.ioctl(0, 0x5412 | 0x80000000, b"x"),
    "leave_cgroup": leave,
    "setuid_program": setuid_program,
    "capabilities": capabilities,
    "chown": chown_to_root,
    "x32": x32,
    "low_port": lambda: socket.socket().bind(("127.0.0.1", 81)),
    # And what has to work.
    "tcp": sock(socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": sock(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC),
    "udp": sock(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": sock(socket.AF_UNIX, socket.SOCK_STREAM),
    "unix_pair": lambda: [s.close() for s in socket.socketpair()],
    "netlink_route": sock(16, socket.SOCK_RAW, 0),
    "resolve": lambda: socket.getaddrinfo("localhost", 80),
    "thread": lambda: __import__("threading").Thread(target=int).start(),
    "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0),
}

for name in sys.argv[3:] or ATTACKS:
    attack = ATTACKS[name]
    try:
        attack()
        result = "ok"
    except OSError as e:
        result = errno.errorcode.get(e.errno, str(e))
    print(name, result, flush=True)
