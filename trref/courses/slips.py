"""The usual slips: what a reference with one thing changed computes, a sign, a factor, minimum for maximum."""

import ast
import contextlib
import dataclasses
import functools
import signal
import threading
import time

import numpy as np

from trref import catalog, checks
from trref.checks import mutants
from trref.conformance import Options, trials
from trref.conformance.worker import InProcess

__all__ = ["TooSlow", "asked", "limited", "name_slip"]

WORDS = {
    "minimum": "the minimum", "maximum": "the maximum", "min": "the minimum", "max": "the maximum",
    "sum": "a sum", "mean": "a mean", "argmax": "the place of the largest", "argmin": "the place of the smallest",
    "tril": "the lower triangle", "triu": "the upper triangle", "zeros_like": "zeros", "ones_like": "ones",
}  # fmt: skip
SIGNS = {
    ast.Add: "a plus",
    ast.Sub: "a minus",
    ast.Mult: "a product",
    ast.Div: "a quotient",
}
FEW = 5  # cases that are asked before all


class TooSlow(BaseException):
    """A changed function that does not end."""


@dataclasses.dataclass(frozen=True)
class Slip:
    """A changed reference, and what was changed in words."""

    text: str
    mutant: mutants.Mutant


@functools.cache
def slips(name):
    """Return the changes of a function, with what they are in words."""
    record = catalog.find(name)
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        return ()
    return tuple(Slip(_in_words(m), m) for m in mutants.mutants(record))


def _in_words(mutant):
    """What a mutant's text, ``"f: statement  ->  statement"``, changes: without the lines themselves."""
    before, _, after = mutant.text.partition(": ")[2].partition("  ->  ")
    if not after:
        return mutant.text.partition(": ")[2]  # the gradient flows through …
    try:
        trees = ast.parse(_complete(before)), ast.parse(_complete(after))
    except SyntaxError:
        return "one step is another"
    text = _difference(*trees) or "one step is another"
    target = (
        trees[0].body[0].targets[0]
        if trees[0].body and isinstance(trees[0].body[0], ast.Assign)
        else None
    )
    return f"{text} (in {target.id})" if isinstance(target, ast.Name) else text


def _complete(statement):
    """Of a compound statement the mutant's text may hold no body."""
    return f"{statement}\n    pass" if statement.rstrip().endswith(":") else statement


def _difference(a, b):
    """Say what differs between two trees; None where nothing does."""
    if ast.dump(a) == ast.dump(b):
        return None
    if type(a) is not type(b):
        return _replaced(a, b)
    for field in a._fields:
        old, new = getattr(a, field, None), getattr(b, field, None)
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for x, y in zip(old, new, strict=True):
                if (
                    isinstance(x, ast.AST)
                    and isinstance(y, ast.AST)
                    and (text := _difference(x, y))
                ):
                    return text
        elif isinstance(old, ast.AST) and isinstance(new, ast.AST):
            if isinstance(old, ast.operator) and type(old) is not type(new):
                return f"{SIGNS.get(type(new), 'an operation')} stands where {SIGNS.get(type(old), 'another')} belongs"
            if isinstance(old, ast.cmpop) and type(old) is not type(new):
                return "a comparison has the wrong direction"
            if isinstance(old, ast.boolop) and type(old) is not type(new):
                return "'and' and 'or' are exchanged"
            if text := _difference(old, new):
                return text
        elif old != new:
            return _other(a, field, old, new)
    return None


def _other(node, field, old, new):
    if isinstance(node, ast.Attribute) and {old, new} <= set(WORDS):
        return f"{WORDS[new]} is taken where {WORDS[old]} belongs"
    if isinstance(node, ast.Constant):
        return f"a constant is {new!r} where {old!r} belongs"
    return f"{new} is used where {old} belongs"


def _replaced(a, b):
    """A term or factor that was dropped, a transpose, the operands of a product."""
    if isinstance(a, ast.BinOp) and ast.dump(b) in (
        ast.dump(a.left),
        ast.dump(a.right),
    ):
        dropped = a.right if ast.dump(b) == ast.dump(a.left) else a.left
        kind = "the factor" if isinstance(a.op, ast.Mult) else "the term"
        return f"{kind} {_short(dropped)} is missing"
    if isinstance(a, ast.UnaryOp):
        return "a sign is missing"
    if isinstance(a, ast.Attribute) and a.attr == "T":
        return "a transpose is missing"
    return "one step is another"


def _short(node):
    text = ast.unparse(node)
    return text if len(text) <= 30 else f"{text[:27]}…"


def name_slip(record, answered, *, seconds=3.0):
    """Return in words the change of the reference that explains all answers; None where none does.

    A part of an answer counts as explained where it is right, or where it is the changed reference's.

    Parameters
    ----------
    record : Record
    answered : list of (Trial, Answer)
        In double precision, without errors.
    seconds : float
    """
    deadline = time.monotonic() + seconds
    wrong = [pair for pair in answered if _parts_off(*pair)]
    if not wrong:
        return None
    for text, explains in _by_gradient(record):
        if all(explains(*pair) for pair in answered):
            return text
    few = sorted(wrong, key=lambda pair: pair[0].entries)[:FEW]
    for slip in slips(record.name):
        if time.monotonic() > deadline:
            break
        try:
            with limited(1.0):
                function = slip.mutant.make()
                if _explains(record, function, few) and _explains(
                    record, function, answered
                ):
                    return slip.text
        except (TooSlow, Exception):
            continue
    return None


@contextlib.contextmanager
def limited(seconds):
    """End what takes more seconds of the processor than it may, where signals can be had (the main thread)."""

    def stop(*_):
        raise TooSlow

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def asked(record, function, trial):
    """Return a function's answer to a trial, in this process; the trial's inputs cannot be written to."""
    frozen = dataclasses.replace(trial, inputs=checks.convert(trial.inputs, _read_only))
    return trials.ask(InProcess(function, Options()), record, frozen)


def _read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


def _parts_off(trial, answer):
    return [
        n
        for n, found in answer.parts.items()
        if n in trial.expected and not _close(found, trial.expected, n)
    ]


def _close(found, parts, name):
    return found.shape == np.shape(parts[name]) and trials.close(found, parts, name)


def _explains(record, function, answered):
    told = False
    for trial, answer in answered:
        changed = asked(record, function, trial)
        if not changed.parts:
            return False
        for name, found in answer.parts.items():
            if name in trial.expected and not _close(found, trial.expected, name):
                if name not in changed.parts or not _close(
                    found, {**trial.expected, **changed.parts}, name
                ):
                    return False
                told = True
    return told


def _by_gradient(record):
    """Yield (words, whether it explains an answer) for slips of the gradient alone, the value being right."""
    if not isinstance(record, catalog.Objective) or len(record.wrt_names) != 1:
        return
    part = f"gradient by {record.wrt_names[0]}"

    def explained(trial, answer, change):
        off = _parts_off(trial, answer)
        if off and off != [part]:
            return False
        changed = change(trial)
        return (
            changed is None
            or not off
            or _close(answer.parts[part], {part: changed}, part)
        )

    def slip(text, change):
        return text, lambda trial, answer: explained(trial, answer, change)

    yield slip("the gradient has the wrong sign", lambda t: -t.expected[part])
    others = [n for n in record.inputs if n != "log_prob" and n.endswith("log_prob")]
    if record.wrt_names == ("log_prob",) and len(others) == 1:

        def ratio(trial):
            return np.exp(
                trial.double_inputs["log_prob"] - trial.double_inputs[others[0]]
            )

        yield slip(
            "the gradient lacks the ratio", lambda t: t.expected[part] / ratio(t)
        )
        if "clip" in record.hyper_parameters:

            def inside(trial):
                return abs(ratio(trial) - 1) <= trial.hyper["clip"]

            text = "the gradient is zero on both sides of the interval, whatever the sign of the advantage"
            yield slip(text, lambda t: t.expected[part] * inside(t))
