"""Guarded children of a fork server: as `trref.conformance.worker.Child`, but ready within milliseconds."""

import atexit
import contextlib
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import threading

import trref
from trref.conformance import supervisor
from trref.conformance.worker import MARK, Child
from trref.courses import forkserver

__all__ = ["MEMORY", "GuardedChild", "server"]

MEMORY = 2 << 30  # bytes of data of a child
START_LIMIT = 120.0  # seconds, for a server that imports torch on a busy machine
SERVERS = {}
NAMES = {
    "numpy": ("numpy",),
    "torch": ("numpy", "torch"),
    "jax": ("numpy",),
}  # JAX has threads: no forks after it


class ServerLost(Exception):
    """The server has ended, or was ended."""


class Server:
    """A fork server, and the connection to it."""

    def __init__(self, modules):
        ours, theirs = socket.socketpair()
        folder = str(pathlib.Path(trref.__file__).parents[1])
        self.mark, self.owner = secrets.token_hex(16), os.getpid()
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
        )
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    forkserver.__file__,
                    folder,
                    str(theirs.fileno()),
                    *modules,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, **threads, MARK: self.mark},
            )
        self.connection, self.received = ours, b""
        if self.line(START_LIMIT) != "ready":
            raise ServerLost

    def line(self, timeout):
        """Return the next line that it sends; None when the time is over."""
        self.connection.settimeout(timeout)
        while b"\n" not in self.received:
            try:
                data = self.connection.recv(4096)
            except TimeoutError:
                return None
            except OSError as error:
                raise ServerLost from error
            if not data:
                raise ServerLost
            self.received += data
        line, _, self.received = self.received.partition(b"\n")
        return line.decode()

    def send(self, message, descriptors):
        try:
            socket.send_fds(
                self.connection, [json.dumps(message).encode()], descriptors
            )
        except OSError as error:
            raise ServerLost from error

    def close(self):
        """End it, and all that it started."""
        self.connection.close()
        self.process.kill()
        self.process.wait()
        supervisor.end_marked(f"{MARK}={self.mark}".encode())


def server(framework):
    """Return the fork server of this thread for a framework; start one where there is none."""
    place = framework, threading.get_ident()
    found = SERVERS.get(place)
    if found is None or found.owner != os.getpid() or found.process.poll() is not None:
        if found is not None and found.owner == os.getpid():
            found.close()
        found = SERVERS[place] = Server(NAMES[framework])
    return found


@atexit.register
def close_servers():
    """End the fork servers of this process."""
    for place in list(SERVERS):
        found = SERVERS.pop(place)
        if found.owner == os.getpid():
            found.close()


class Forked:
    """What `Child` needs of its process: the ends of its streams, waiting, killing."""

    def __init__(self, framework, message, answers):
        self.returncode, self.server = None, server(framework)
        stdin, ours_in = os.pipe()
        ours_err, stderr = os.pipe()
        try:
            try:
                self._ask(message, (answers, stdin, stderr))
            except ServerLost:  # an earlier child may have ended it
                self.server.close()
                self.server = server(framework)
                self._ask(message, (answers, stdin, stderr))
        finally:
            os.close(stdin)
            os.close(stderr)
            self.stdin, self.stderr = (
                os.fdopen(ours_in, "wb", 0),
                os.fdopen(ours_err, "rb", 0),
            )

    def _ask(self, message, descriptors):
        self.server.send(message, descriptors)
        self.pid = int(self.server.line(START_LIMIT) or 0)

    def wait(self, timeout=None):
        if self.returncode is None:
            try:
                status = self.server.line(timeout)
            except ServerLost:
                self.returncode = -signal.SIGKILL
                self.server.close()
                return self.returncode
            if status is None:
                raise subprocess.TimeoutExpired("child", timeout)
            status = int(status)
            self.returncode = (
                -os.WTERMSIG(status)
                if os.WIFSIGNALED(status)
                else os.WEXITSTATUS(status)
            )
        return self.returncode

    def kill(self):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)


class GuardedChild(Child):
    """A `Child` with limits, which may not use trref.

    Parameters
    ----------
    target : str
        ``"file.py:function"``.
    options : trref.courses.guarded.Asked
    limit, loading : float
        Seconds a call, and those to import it.
    memory : int
        Bytes.
    """

    def __init__(self, target, options, *, limit=5.0, loading=20.0, memory=MEMORY):
        super().__init__(target, options, limit=limit)
        self.loading, self.memory = loading, memory

    def _exchange(self, message, limit, most):
        return super()._exchange(message, min(limit, self.loading), most)

    def _start(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.mark = secrets.token_hex(16)
        folder = pathlib.Path(self.target.rpartition(":")[0]).resolve().parent
        message = {
            "target": self.target,
            "folder": str(folder),
            "memory": self.memory,
            "environment": {MARK: self.mark},
        }
        with theirs:
            self.process = Forked(self.options.framework, message, theirs.fileno())
        os.set_blocking(self.process.stderr.fileno(), False)
        self.socket, self.said = ours, b""
