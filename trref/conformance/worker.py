"""Run an implementation where it can do no harm: in this process, or in a child with a time limit a case.

Both kinds have ``setup() -> description`` and ``call(request) -> Answer``. The child speaks in pickles over a pipe of
its own; what the implementation prints goes elsewhere.
"""

import contextlib
import dataclasses
import io
import os
import pickle
import select
import struct
import subprocess
import sys
import time
import warnings

import numpy as np

from trref.conformance.load import Implementation, LoadError, Options, load

__all__ = ["Answer", "Child", "InProcess"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one call gave: parts by name, or an error; what it printed, and which inputs it changed.

    `lost` says that the call did not come back: too slow, or the end of the process.
    """

    parts: dict | None = None
    error: str | None = None
    printed: str = ""
    changed: tuple[str, ...] = ()
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """The method of `Implementation` to call, and its arguments."""

    kind: str
    inputs: dict
    arguments: dict


def _answer(implementation, request):
    """Call, and notice everything that a well-behaved function would not do."""
    before = pickle.dumps(_plain(request.inputs))
    out, parts, error = io.StringIO(), None, None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = getattr(implementation, request.kind)(request.inputs, **request.arguments)
    except (Exception, SystemExit) as caught:
        error = f"raised {type(caught).__name__}: {caught}"
    changed = ()
    if pickle.dumps(_plain(request.inputs)) != before:
        old = pickle.loads(before)
        changed = tuple(k for k, v in _plain(request.inputs).items() if pickle.dumps(v) != pickle.dumps(old[k]))
    return Answer(parts, error, out.getvalue()[:200], changed)


def _plain(inputs):
    return {k: v for k, v in inputs.items() if isinstance(v, np.ndarray | list)}


class InProcess:
    """Calls a function object directly."""

    def __init__(self, function, options):
        self.implementation = Implementation(function, options)

    def setup(self):
        return self.implementation

    def call(self, request):
        return _answer(self.implementation, request)

    def close(self):
        pass


class Child:
    """Loads the target in a child process and calls it there; a call that takes too long ends the child.

    Parameters
    ----------
    target : str
        As `load` takes it.
    options : Options
    limit : float
        Seconds a call.
    """

    def __init__(self, target, options, *, limit=10.0):
        self.target, self.options, self.limit = target, options, limit
        self.process = None

    def setup(self):
        """Start the child; return a stand-in for the implementation that knows its signature.

        Raises
        ------
        LoadError
        """
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from trref.conformance import worker; worker.serve()", str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(write,),
        )
        os.close(write)
        self.pipe = read
        self._send((self.target, self.options))
        reply = self._receive(60.0)
        if reply is None:
            self.close()
            raise LoadError(f"importing {self.target} did not end within 60 s, or ended the process")
        if isinstance(reply, str):
            self.close()
            raise LoadError(reply)
        return reply

    def call(self, request):
        if self.process is None:
            self.setup()
        self._send(request)
        answer = self._receive(self.limit)
        if answer is None:
            ended = self.process.poll()
            self.close()
            if ended is not None:
                return Answer(error=f"ended its process (exit status {ended})", lost=True)
            return Answer(error=f"did not return within {self.limit:g} s", lost=True)
        return answer

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            os.close(self.pipe)
            self.process = None

    def _send(self, message):
        data = pickle.dumps(message)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(struct.pack("<Q", len(data)) + data)
            self.process.stdin.flush()

    def _receive(self, limit):
        deadline, data, length = time.monotonic() + limit, b"", None
        while length is None or len(data) < length:
            ready, _, _ = select.select([self.pipe], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.pipe, 1 << 20) if ready else b""
            if not chunk:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.2 if ready else 0)
                return None
            data += chunk
            if length is None and len(data) >= 8:
                length, data = struct.unpack("<Q", data[:8])[0], data[8:]
        return pickle.loads(data)


class Signature:
    """What the parent needs to know of an implementation that lives in a child."""

    def __init__(self, implementation):
        self.options, self.framework = implementation.options, implementation.framework
        self.takes_any, self.parameters = implementation.takes_any, implementation.parameters
        self.required, self.sign = implementation.required, implementation.sign

    theirs, accepts = Implementation.theirs, Implementation.accepts


def serve():
    """The child's main loop."""
    pipe, source = os.fdopen(int(sys.argv[1]), "wb"), sys.stdin.buffer

    def reply(message):
        data = pickle.dumps(message)
        pipe.write(struct.pack("<Q", len(data)) + data)
        pipe.flush()

    def request():
        head = source.read(8)
        return pickle.loads(source.read(struct.unpack("<Q", head)[0])) if len(head) == 8 else None

    target, options = request()
    try:
        assert isinstance(options, Options)
        implementation = Implementation(load(target), options)
    except LoadError as error:
        reply(str(error))
        return
    reply(Signature(implementation))
    while (wanted := request()) is not None:
        reply(_answer(implementation, wanted))
