"""Run an implementation where it can do no harm: in this process, or in a child with a time limit a call.

Both kinds have ``setup() -> description`` and ``call(request) -> Answer``. What the child is and how it ends, says
`trref.conformance.supervisor`; what crosses to it and back, `trref.conformance.protocol`.
"""

import contextlib
import copy
import dataclasses
import io
import os
import pathlib
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
import warnings

import numpy as np

import trref
from trref import checks
from trref.conformance import protocol, supervisor
from trref.conformance.load import (
    Implementation,
    LoadError,
    Options,
    Refused,
    described,
    load,
    plain,
)

__all__ = ["Answer", "Child", "InProcess", "Request", "serve"]

IMPORT_LIMIT = 60.0  # seconds
MARK = "TRREF_VERIFIES"
STDERR_LINES, STDERR_BYTES = 3, 4096
PRINTED = 200


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one call gave: parts by name, or an error; what it printed, and which inputs it changed.

    `lost` says that the call did not come back: too slow, the end of the process, or no answer in what came.
    """

    parts: dict | None = None
    error: str | None = None
    printed: str = ""
    changed: tuple[str, ...] = ()
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """The method of `Implementation` to call, its arguments, and how many bytes its result may have."""

    kind: str
    inputs: dict
    arguments: dict
    most: int = 1 << 26


def _answer(implementation, request, caught=(Exception, SystemExit)):
    """Call with copies of the inputs, and notice everything that a well-behaved function would not do."""
    inputs, heard, parts, error = copy.deepcopy(request.inputs), _Heard(), None, None
    out = io.TextIOWrapper(
        heard, encoding="utf-8", errors="replace", write_through=True
    )
    implementation.changed = []
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            parts = getattr(implementation, request.kind)(inputs, **request.arguments)
        size = sum(a.nbytes for a in parts.values())
        if size > request.most:
            raise Refused(f"{size:,} bytes, at most {request.most:,} are compared")
        parts = {name: np.array(a) for name, a in parts.items()}
    except Refused as refused:
        parts, error = None, f"returned {refused}"
    except caught as raised:
        parts, error = None, f"raised {described(raised)}"
    changed = [
        name
        for name, value in request.inputs.items()
        if _numbers(value) != _numbers(inputs[name])
    ]
    printed = plain(heard.getvalue().decode(errors="replace"))
    return Answer(
        parts, error, printed, tuple(dict.fromkeys(changed + implementation.changed))
    )


def _numbers(value):
    """All numbers in arrays, lists, and the fields of callables; the shape and dtype of each array."""
    found = []
    checks.convert(
        value,
        lambda a: found.append((a.dtype.str, a.shape, np.asarray(a).tobytes())) or a,
    )
    return found


class _Heard(io.BytesIO):
    """Keeps the beginning of what is written; does not close."""

    def write(self, data):
        super().write(bytes(data)[: max(0, PRINTED - self.tell())])
        return len(data)

    def close(self):
        pass


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
        self._start()
        try:
            head, _ = self._exchange((self.target, self.options), IMPORT_LIMIT, 0)
            if "error" in head:
                raise LoadError(plain(str(head["error"])))
            return Signature(self.options, **head)
        except (_Lost, protocol.BrokenProtocol, TypeError, ValueError) as error:
            raise LoadError(
                f"importing {self.target} {self._what_happened(error)}"
            ) from error
        finally:
            if sys.exc_info()[0]:
                self.close()

    def _start(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        folder = str(pathlib.Path(trref.__file__).parents[1])
        self.mark = secrets.token_hex(16)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    supervisor.__file__,
                    folder,
                    str(theirs.fileno()),
                    self.target,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, MARK: self.mark},
            )
        os.set_blocking(self.process.stderr.fileno(), False)
        self.socket, self.said = ours, b""

    def call(self, request):
        if self.process is None:
            self.setup()
        try:
            head, arrays = self._exchange(request, self.limit, request.most)
            parts, error = (
                (arrays, None)
                if head["error"] is None
                else (None, plain(head["error"]))
            )
            return Answer(
                parts,
                error,
                plain(head["printed"]),
                tuple(plain(name) for name in head["changed"]),
            )
        except (_Lost, protocol.BrokenProtocol, TypeError, KeyError) as error:
            what = self._what_happened(error)
            self.close()
            return Answer(error=what, lost=True)

    def _exchange(self, message, limit, most):
        """Send a request, and read the answer to it, within the limit while bytes flow either way."""
        deadline = time.monotonic() + limit
        token, data = protocol.request(message)
        pending, received = memoryview(data), bytearray()

        def read(count):
            nonlocal pending
            while len(received) < count:
                for file, events in self._ready(deadline, limit, bool(pending)):
                    if file is self.process.stderr:
                        self._listen()
                    elif events & selectors.EVENT_READ:
                        received.extend(self._received())
                    else:
                        pending = pending[self._sent(pending) :]
            taken = bytes(received[:count])
            del received[:count]
            return taken

        return protocol.unpack(read, token, most)

    def _ready(self, deadline, limit, sending):
        with selectors.DefaultSelector() as selector:
            selector.register(
                self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE * sending
            )
            if not self.process.stderr.closed:
                selector.register(self.process.stderr, selectors.EVENT_READ)
            ready = selector.select(max(0.0, deadline - time.monotonic()))
        if not ready or time.monotonic() > deadline:
            raise _Lost(f"did not return within {limit:g} s")
        return [(key.fileobj, events) for key, events in ready]

    def _received(self):
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            raise _Lost
        return data

    def _sent(self, pending):
        try:
            return self.socket.send(pending[: 1 << 20])
        except ConnectionError as error:
            raise _Lost from error

    def _listen(self):
        """Keep the last of what it says on stderr; return whether there was anything."""
        data = None if self.process.stderr.closed else self.process.stderr.read(1 << 16)
        if data == b"":
            self.process.stderr.close()
        self.said = (self.said + (data or b""))[-STDERR_BYTES:]
        return bool(data)

    def _what_happened(self, error):
        """Why there is no answer, and the last lines on stderr."""
        if isinstance(error, _Lost) and str(error):
            what = str(error)
        elif isinstance(error, _Lost):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(supervisor.LONGEST_END)
            ended = self.process.returncode
            how = (
                f"signal {signal.Signals(-ended).name}"
                if ended and ended < 0
                else f"exit status {ended}"
            )
            what = (
                "closed the connection on which it answers"
                if ended is None
                else f"ended its process ({how})"
            )
        else:
            what = f"broke the protocol: {error}"
        for _ in range(64):  # what it has said; it may go on for ever
            if not self._listen():
                break
        lines = [
            plain(line)
            for line in self.said.decode(errors="replace").splitlines()
            if line.strip()
        ]
        return what + (
            "; on stderr: " + " | ".join(lines[-STDERR_LINES:]) if lines else ""
        )

    def close(self):
        """End the child and everything that it started."""
        if self.process is None:
            return
        process, self.process = self.process, None
        self.socket.close()
        process.stdin.close()  # the order to end
        try:
            process.wait(supervisor.LONGEST_END + 1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        supervisor.end_marked(f"{MARK}={self.mark}".encode())
        process.stderr.close()


class _Lost(Exception):
    """There will be no answer."""


class Signature:
    """What the parent needs to know of an implementation that lives in a child."""

    def __init__(
        self, options, framework, others, takes_any, parameters, required, defaults
    ):
        self.options, self.takes_any = options, bool(takes_any)
        self.framework, self.others = plain(framework), [plain(f) for f in others]
        self.parameters = [plain(p) for p in parameters]
        self.required = [plain(p) for p in required]
        self.defaults = {plain(name): value for name, value in dict(defaults).items()}

    theirs, accepts = Implementation.theirs, Implementation.accepts


def serve(
    descriptor, make=lambda target, options: Implementation(load(target), options)
):
    """The child's main loop; `make` gives what is called."""
    connection, process = socket.socket(fileno=descriptor), os.getpid()
    source = connection.makefile("rb")

    def reply(token, arrays, **head):
        if os.getpid() != process:
            os._exit(0)  # the implementation split its process; one of the two answers
        connection.sendall(protocol.pack(token, head, arrays))

    token, (target, options) = protocol.read_request(source)
    try:
        assert isinstance(options, Options)
        found = make(target, options)
    except LoadError as error:
        return reply(token, {}, error=str(error))
    except BaseException as error:
        return reply(token, {}, error=f"{target} cannot be called: {described(error)}")
    fields = (
        *("framework", "others", "takes_any", "parameters", "required"),
        "defaults",
    )
    reply(token, {}, **{name: getattr(found, name) for name in fields})
    while wanted := protocol.read_request(source):
        token, request = wanted
        answer = _answer(found, request, caught=BaseException)
        reply(
            token,
            answer.parts or {},
            error=answer.error,
            printed=answer.printed,
            changed=answer.changed,
        )
