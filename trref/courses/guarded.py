"""The inner side of a guarded child: the submission runs without trref, and what it tries is noticed.

What a child answers is judged elsewhere, against results that it never sees; so there is nothing to forge here. This
keeps it from computing the answers with the reference, and says so where it tries.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import types
from collections.abc import Mapping

import trref
from trref.conformance import load, protocol, worker
from trref.conformance.load import Implementation, Options, Refused
from trref.courses.terms import array_of, traced

__all__ = ["FORBIDDEN", "Asked", "Forbidden", "Guarded", "serve"]

FORBIDDEN = "is not allowed"
MOST_TERMS, LONGEST_NAME = 200, 50
PACKAGE = str(pathlib.Path(trref.__file__).parent) + os.sep
PROCESSES = (
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.system",
    "os.posix_spawn",
    "os.exec",
    "os.spawn",
)
SIGNALS = ("os.kill", "os.killpg", "signal.pthread_kill")
NETWORK = ("socket.connect", "socket.bind", "socket.sendto")
OBJECTS = ("gc.get_objects", "gc.get_referrers", "gc.get_referents")
WHAT = {
    **dict.fromkeys(PROCESSES, "starting a process"),
    **dict.fromkeys(SIGNALS, "a signal to a process"),
    **dict.fromkeys(NETWORK, "the network"),
    **dict.fromkeys(OBJECTS, "searching the interpreter's objects"),
    "sys._current_frames": "reading frames of the harness",
    "sys.addaudithook": "an audit hook",
}


class Forbidden(BaseException):
    """What a submission may not do. No `except Exception` swallows this."""


@dataclasses.dataclass(frozen=True)
class Asked(Options):
    """How a submission is called; `by_hand`: the gradient is its own, whatever the framework."""

    by_hand: bool = False


class Watch:
    """While a submission runs, trref is out of reach, and what it tries is noted."""

    def __init__(self):
        self.active, self.found = False, []
        self.code = _code_of(load, worker, protocol)
        sys.addaudithook(self._heard)

    def _heard(self, event, arguments):
        if not self.active:
            return
        what = WHAT.get(event)
        if (
            event == "import"
            and str(arguments[0]).partition(".")[0] == "trref"
            and not _from_inside()
        ):
            what = "importing trref"
        elif event == "open" and isinstance(arguments[0], str) and not _from_inside():
            path = os.path.abspath(arguments[0])
            what = "reading the files of trref" if path.startswith(PACKAGE) else None
            if (
                path.startswith("/proc/")
                and "/fd/" not in path
                and path.endswith(("/mem", "/maps", "/environ"))
            ):
                what = "reading the memory of processes"
        if what:
            self.found.append(what)
            raise Forbidden(f"{what} {FORBIDDEN}")

    @contextlib.contextmanager
    def __call__(self):
        hidden = {
            n: m for n, m in sys.modules.items() if n.partition(".")[0] == "trref"
        }
        for name in hidden:
            del sys.modules[name]
        self.active = True
        try:
            yield
        finally:
            self.active = False
            sys.modules.update(hidden)
        if _code_of(load, worker, protocol) != self.code:
            self.found.append("changing the harness")
        if self.found:
            raise Forbidden(f"{self.found[0]} {FORBIDDEN}")


def _from_inside():
    """Whether the nearest frame outside of Python's import machinery is of this package."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<frozen") and not name.endswith(
            ("importlib/__init__.py", "linecache.py")
        ):
            return name.startswith(PACKAGE)
        frame = frame.f_back
    return False


def _code_of(*modules):
    """The functions of modules, and the code of each."""
    found = {}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, types.FunctionType):
                found[module.__name__, name] = value, value.__code__
            elif isinstance(value, type) and value.__module__ == module.__name__:
                members = {
                    k: f
                    for k, f in vars(value).items()
                    if isinstance(f, types.FunctionType)
                }
                found |= {(name, k): (f, f.__code__) for k, f in members.items()}
    return found


class Guarded(Implementation):
    """An implementation that is watched while it is loaded and called."""

    def __init__(self, target, options):
        self.watch, self.file = Watch(), os.path.abspath(target.rpartition(":")[0])
        with self.watch():
            function = load.load(target)
        super().__init__(function, options)

    def _called(self, named, given):
        with self.watch():
            return super()._called(named, given)

    def objective(self, inputs, hyper, wrt):
        if not self.options.by_hand:
            return super().objective(inputs, hyper, wrt)
        result = self.call({**inputs, **hyper})
        value, *more = result if isinstance(result, tuple) and result else (result,)
        found = {"value": _real(value)}
        return found | self._returned(more[0], wrt) if more else found

    def _returned(self, gradients, wrt):
        if isinstance(gradients, Mapping):
            gradients = types.SimpleNamespace(
                **{str(k): v for k, v in gradients.items()}
            )
            if len(wrt) == 1:
                gradients = getattr(gradients, wrt[0], None)
        return super()._returned(gradients, wrt)

    def transform(self, inputs, hyper, wrt, cotangent=None):
        if self.options.by_hand:
            cotangent = None
            return {"result": _real(self.call({**inputs, **hyper}))}
        return super().transform(inputs, hyper, wrt, cotangent)

    def update(self, inputs, hyper, **more):
        with self.watch():
            return super().update(inputs, hyper, **more)

    def terms(self, inputs, kind, arguments):
        """What the names in the submission's functions held at their returns, the last one of each name."""
        call = functools.partial(getattr(self, kind), inputs, **arguments)
        result, frames = traced(
            call, lambda code: os.path.abspath(code.co_filename) == self.file
        )
        found = {f"the {part} returned": array for part, array in result.items()}
        for _, names in frames:
            for name, value in names.items():
                if (array := array_of(value)) is not None and len(name) < LONGEST_NAME:
                    found[name] = array
        return dict(list(found.items())[:MOST_TERMS])


def _real(value):
    array = array_of(value)
    if array is None:
        raise Refused(f"{type(value).__name__}, expected an array or a number")
    return array


serve = functools.partial(worker.serve, make=Guarded)
