"""Starts the process of an implementation; ends it, and all that descend from it.

A script, of the standard library alone.

::

    verify, identify, …      asks over a socket; holds the other end of the supervisor's standard input
      └ supervisor           leads a session of its own, adopts what its descendants leave behind
          └ worker           imports the implementation and answers

The end of standard input, which also comes when the asking process dies, is the order to end everything. Where there is
no /proc (outside Linux) only the worker's process group is ended.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LONGEST_END = (
    5.0  # seconds spent on processes that start others faster than they can be ended
)


def main(folder, descriptor, target, serve=None):
    """Start the worker, wait for its end or for the order, end everything, and end as the worker did.

    `serve` may be other than `worker.serve`.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # whatever crashes leaves no file
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    ended, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    parent, worker = os.getppid(), os.fork()
    if worker == 0:
        _work(folder, descriptor, target, serve)
    os.close(descriptor)
    status = None
    try:
        status = _watch(worker, ended, parent)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker, signal.SIGKILL)
        end_descendants()
    _end_like(status)


def _work(folder, descriptor, target, serve):
    """The worker: a group of its own, no standard input, and what it imports is what the user's shell would import."""
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv[:] = [target]
    sys.path.insert(0, folder)
    try:
        from trref.conformance import worker

        sys.path.remove(folder)
        (serve or worker.serve)(descriptor)
    except BaseException as error:  # of our own code, broken by the implementation
        os.write(2, f"it can no longer answer: {type(error).__name__}\n".encode())
        os._exit(70)
    os._exit(0)


def _watch(worker, ended, parent):
    """Return the worker's wait status; None after the order to end."""
    while True:
        ready, _, _ = select.select([0, ended], [], [], 1.0)
        if 0 in ready or os.getppid() != parent:
            return None
        if ended in ready:
            os.read(ended, 4096)
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            if child[0] == worker:
                return child[1]


def end_descendants():
    """Kill until none is left: the orphans of those killed are adopted, and found in the next round."""
    deadline = time.monotonic() + LONGEST_END
    while time.monotonic() < deadline:
        for process in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants():
    children = {}
    for process, fields in _processes():
        children.setdefault(int(fields[1]), []).append(process)
    found, generation = [], [os.getpid()]
    while generation:
        generation = [
            child for process in generation for child in children.get(process, ())
        ]
        found += generation
    return found


def _processes():
    """Yield every process, and the fields of /proc/…/stat from the state on: state, parent, …"""
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal():
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{entry}/stat", "rb") as file,
            ):
                yield int(entry), file.read().rpartition(b")")[2].split()


def _end_like(status):
    """Exit as the worker did, so that the asking process can tell."""
    if status is not None and os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(0 if status is None else os.WEXITSTATUS(status))


def end_marked(mark):
    """End what a supervisor left that was itself killed: all that have this in their environment."""
    deadline = time.monotonic() + LONGEST_END
    while (left := _marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _marked(mark):
    found = []
    for process, _ in _processes():
        path = f"/proc/{process}/environ"
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found += [process] if mark in file.read() else []
    return found


def _prctl(option, value):
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
