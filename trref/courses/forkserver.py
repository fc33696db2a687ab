"""Starts guarded children from a process that has imported NumPy, and what else they need, once.

A script, started by `trref.courses.children`; see `trref.conformance.supervisor` for what a child is. One message a
child: JSON, with three descriptors (where it answers, its standard input, its standard error). One child at a time;
when it has ended, and all that it left, its wait status goes back.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_CHILD_SUBREAPER = 36
LARGEST_FILE = 1 << 26  # bytes that a child may write into one


def main(folder, descriptor, *modules):
    """Import, then fork a child a message until the other end is closed."""
    sys.path.insert(0, folder)
    for name in modules:
        importlib.import_module(name)
    from trref.conformance import supervisor
    from trref.courses import guarded

    sys.path.remove(folder)
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    connection = socket.socket(fileno=descriptor)
    connection.sendall(b"ready\n")
    while True:
        data, descriptors, *_ = socket.recv_fds(connection, 1 << 16, 3)
        if not data:
            break
        message = json.loads(data)
        child = os.fork()
        if child == 0:
            connection.close()
            _begin(message, *descriptors)
            supervisor.main(folder, descriptors[0], message["target"], guarded.serve)
            os._exit(0)
        for number in descriptors:
            os.close(number)
        connection.sendall(f"{child}\n".encode())
        status = os.waitpid(child, 0)[1]
        supervisor.end_descendants()
        connection.sendall(f"{status}\n".encode())


def _begin(message, answers, stdin, stderr):
    """What a new process would have: a session, standard streams, its folder, limits, and no way to the network."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    for number, place in ((stdin, 0), (null, 1), (stderr, 2)):
        os.dup2(number, place)
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        if int(number) > 2 and int(number) != answers:
            with contextlib.suppress(OSError):
                os.close(int(number))
    os.chdir(message["folder"])
    os.environ.update(message["environment"])
    for limit, most in (
        (resource.RLIMIT_DATA, message["memory"]),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, hard))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error, and no end
    _leave_the_network()


def _leave_the_network():
    """A network of its own with nothing in it, where the system allows that."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET):
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
