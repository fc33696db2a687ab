"""The terms on the way to a result: what the names in a function's code held when it returned."""

import ast
import inspect
import sys
import textwrap
import warnings

import numpy as np

from trref import backend, catalog, checks

__all__ = ["array_of", "labels_of", "of_reference", "traced"]

MOST = 40  # terms
LARGEST = 100_000  # numbers of a term


def traced(call, wanted):
    """Call; return the result and the locals, at their returns, of the frames whose code is wanted.

    Parameters
    ----------
    call : callable
    wanted : callable
        ``wanted(code) -> bool``.

    Returns
    -------
    result
    frames : list of (code, dict)
        In the order of their returns.
    """
    frames = []

    def on_call(frame, event, argument):
        if event != "call" or not wanted(frame.f_code):
            return None
        frame.f_trace_lines = False

        def on_return(frame, event, argument):
            if event == "return":
                frames.append((frame.f_code, dict(frame.f_locals)))
            return on_return

        return on_return

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        result = call()
    finally:
        sys.settrace(before)
    return result, frames


def array_of(value):
    """Return a number or an array of any framework as an array of real numbers; None for anything else."""
    if isinstance(value, bool | int | float):
        return np.asarray(value, float)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return None
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        array = np.asarray(value)
    except Exception:
        return None
    return (
        array.astype(float)
        if array.dtype.kind in "fiub" and array.size <= LARGEST
        else None
    )


def labels_of(f):
    """Return name -> label for the names that a function assigns in lines that are tagged with an equation."""
    source = textwrap.dedent(inspect.getsource(f))
    lines, found = source.split("\n"), {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign | ast.AugAssign):
            continue
        above = lines[node.lineno - 2] if node.lineno > 1 else ""
        here = " ".join(lines[node.lineno - 1 : node.end_lineno])
        tag = here.partition("# eq. ")[2] or (
            above.partition("# eq. ")[2] if above.strip().startswith("#") else ""
        )
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and tag:
                    found[name.id] = tag.split(",")[0].strip()
    return found


def of_reference(record, inputs, hyper):
    """Return ``(name, label, array)`` of each term of the reference's computation, in the order of its code."""
    f = inspect.unwrap(record.f)
    with (
        backend.use_backend("numpy"),
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        try:
            frames = traced(
                lambda: checks.run(record, inputs, hyper),
                lambda code: code is f.__code__,
            )[1]
        except Exception:
            return ()
    if not frames or isinstance(
        record, catalog.UpdateRule | catalog.Solver | catalog.Sampler
    ):
        return ()  # what a loop leaves at its end is no term of the result
    code, names = frames[-1]
    given, labels, found = set(inspect.signature(f).parameters), labels_of(f), []
    for name in code.co_varnames:
        value = (
            array_of(names.get(name)) if name in names and name not in given else None
        )
        if value is not None:
            found.append((name, labels.get(name, ""), value))
    return tuple(found[:MOST])
