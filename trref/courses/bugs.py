"""A complete implementation with one mistake: a mutant that `verify` notices, or a deviation on record."""

import ast
import dataclasses
import difflib
import functools
import random
import warnings

import numpy as np

from trref import catalog
from trref.checks import mutants
from trref.conformance import trials
from trref.courses import slips
from trref.courses.asked import group_of
from trref.courses.standalone import Unbundled, bundle, plain_tree

__all__ = [
    "DIFFICULTIES",
    "MOST_LINES",
    "Bug",
    "bug",
    "changed_lines",
    "handed_out",
    "of",
    "repaired",
    "share",
]

DIFFICULTIES = {"easy": (0.6, 1.0), "medium": (0.2, 0.6), "hard": (0.0, 0.2)}
MOST_LINES = 3  # that a repair may change
MOST_TRIED = 25  # changes of a function
SECONDS = 2.0  # of the processor, for a function with a mistake


@dataclasses.dataclass(frozen=True)
class Bug:
    """A mistake: the source of the file that has it, the share of cases that show it, and what it is."""

    source: str
    share: float
    text: str


def bug(name, difficulty="medium", seed=0, deviation=None):
    """Return a mistake in a function; the same arguments give the same.

    Parameters
    ----------
    name : str
    difficulty : {"easy", "medium", "hard"}
        By the share of cases that show it: more than three of five, more than one of five, fewer. Where a function has
        none such, the nearest.
    seed : int
    deviation : str, optional
        The name of a deviation on record, or the beginning of one: that, in the place of a chance mistake.

    Raises
    ------
    ValueError
        The function has no such mistake, or cannot be written as one file.
    """
    record = catalog.find(name)
    if deviation is not None:
        return _on_record(record, deviation)
    low, high = DIFFICULTIES[difficulty]
    every = list(_changes(record))
    random.Random(f"{record.name} {seed}").shuffle(every)
    best = None
    for place, before, after in every[:MOST_TRIED]:
        share, source = _rated(record.name, place, before, after)
        if not share:
            continue
        off = max(low - share, share - high, 0.0)
        if best is None or off < best[0]:
            best = off, Bug(source, share, f"{before}  ->  {after}")
        if low < share <= high:
            break
    if best is None:
        raise ValueError(f"{record.name} has no mistake that can be handed out")
    return best[1]


def _on_record(record, beginning):
    found = [d for d in record.deviations if d.name.startswith(beginning)]
    if not found:
        known = "; ".join(d.name for d in record.deviations) or "none"
        raise ValueError(
            f"{record.name} has no deviation {beginning!r} on record; there are: {known}"
        )
    deviation = found[0]
    source = _renamed(
        _bundled(record, deviation.f), deviation.f.__name__, record.f.__name__
    )
    return Bug(
        source, share(record.name, source), f"{deviation.name}: {deviation.computes}"
    )


def _bundled(record, f, change=None):
    more = [record.init] if isinstance(record, catalog.UpdateRule) else []
    try:
        return bundle(f, more=more, change=change)
    except Unbundled as error:
        raise ValueError(
            f"{record.name} cannot be written as one file: {error}"
        ) from error


def _renamed(source, old, new):
    if old == new:
        return source
    tree = ast.parse(source)
    if any(
        getattr(n, "name", None) == new for n in tree.body
    ):  # it calls what it deviates from
        tree = _Renamed(new, f"inner_{new}").visit(tree)
    tree = _Renamed(old, new).visit(tree)
    return (
        ast.unparse(tree)
        .replace("\ndef ", "\n\n\ndef ")
        .replace("\nclass ", "\n\n\nclass ")
        .lstrip()
        + "\n"
    )


class _Renamed(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.name = self.new if node.name == self.old else node.name
        return node

    def visit_Name(self, node):
        return ast.Name(self.new, node.ctx) if node.id == self.old else node


# ------------------------------------------------------------------------------------------------------------ changes


def _changes(record):
    """Yield (place, statement, changed statement) for every mutant of a function and of what it calls."""
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        raise ValueError(
            f"{record.name} draws for itself; no case would show a mistake for sure"
        )
    for module, function in mutants.Program(record).reached:
        for text, *_ in mutants.changed(function):
            before, _, after = text.partition(": ")[2].partition("  ->  ")
            if (
                "finfo" in before
            ):  # a question of rounding, and no mistake that a student could find
                continue
            yield (module, function.name), before, after


@functools.lru_cache(maxsize=2000)
def _rated(name, place, before, after):
    """The share of cases in which a changed function fails, and its source; 0 where it cannot be had."""
    record = catalog.find(name)
    try:
        source = _bundled(
            record, record.f, functools.partial(_changed, place, before, after)
        )
    except (ValueError, SyntaxError):
        return 0.0, ""
    return (share(name, source), source) if source != repaired(name) else (0.0, "")


@functools.lru_cache(maxsize=200)
def repaired(name):
    """Return the source without a mistake."""
    record = catalog.find(name)
    return _bundled(record, record.f)


def _changed(place, before, after, definition):
    """The definition with the first statement or expression that reads so replaced."""
    if (definition.module, definition.name) != place:
        return definition
    old, new = (_read(text) for text in (before, after))
    node = _Replaced(old, new).visit(ast.parse(ast.unparse(definition.node)).body[0])
    for was, now in zip(ast.walk(definition.node), ast.walk(node), strict=False):
        if hasattr(was, "lineno") and isinstance(now, ast.stmt):
            now.lineno, now.end_lineno = was.lineno, was.end_lineno
    return definition._replace(node=node)


def _read(text):
    """A statement, or the expression that it consists of, as `trref.courses.standalone` writes them."""
    (statement,) = plain_tree(
        ast.parse(f"{text}\n    pass" if text.rstrip().endswith(":") else text)
    ).body
    return statement.value if isinstance(statement, ast.Expr) else statement


class _Replaced(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new, self.done = ast.unparse(old), new, False

    def visit(self, node):
        if (
            not self.done
            and isinstance(node, ast.stmt | ast.expr)
            and ast.unparse(node) == self.old
        ):
            self.done = True
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


@functools.lru_cache(maxsize=50)
def _few(name):
    """Some cases: one example of each setting, and the hard ones of the default."""
    record, found = catalog.find(name), []
    sizes = record.sizes[:1] if record.sizes[0] >= 4 else record.sizes[:2]
    for trial in trials.trials(
        record, record.settings, {}, seeds=(0,), sizes=sizes, single=False
    ):
        if "size" in trial.label or trial.setting in ("default", "probe"):
            found.append(trial)
    return found


def share(name, source):
    """The share of the cases in which the function of a source fails; 0 where it has no such function."""
    record, scope = catalog.find(name), {"__name__": "handed_out"}
    try:
        exec(compile(source, "handed_out.py", "exec"), scope)
        function = scope[record.f.__name__]
    except Exception:
        return 0.0
    failed = {}
    for trial in _few(name):
        group = group_of(trial, "value"), trial.iterate, trial.label
        try:
            with (
                slips.limited(SECONDS),
                np.errstate(all="ignore"),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                answer = slips.asked(record, function, trial)
            failed[group] = trials.judge(record, trial, answer) is not None
        except (slips.TooSlow, Exception):
            failed[group] = True
    return sum(failed.values()) / len(failed)


# ------------------------------------------------------------------------------------------------------ what is handed


def of(exercise):
    """Return the mistake of an exercise."""
    return bug(
        exercise.name,
        exercise.bug.get("difficulty", "medium"),
        exercise.bug.get("seed", 0),
        exercise.bug.get("deviation"),
    )


def handed_out(exercise):
    """Return the file that a student gets."""
    found = of(exercise)
    shown = "many" if found.share > 0.6 else "some" if found.share > 0.2 else "few"
    lines = [
        f"{exercise.name}: a complete implementation with one mistake, which shows in {shown} cases.",
        "Find the input that shows it, then the line, and repair it; then say why a training run hides it.",
        f"Solved when all cases are right and no more than {MOST_LINES} lines are new:",
        f"    trref exercise {exercise.name} --find-the-bug{_flags(exercise.bug)} --check {exercise.stem}.py",
    ]
    doc = "\n\n".join(lines[:3])
    return f'"""{doc}\n\n{lines[3]}\n"""\n\n{found.source}'


def _flags(wanted):
    if wanted.get("deviation"):
        return f" --deviation '{wanted['deviation']}'"
    return f" --difficulty {wanted.get('difficulty', 'medium')} --seed {wanted.get('seed', 0)}"


def changed_lines(exercise, source):
    """Return how many lines of a submission are new, comments and formatting aside; many where it cannot be read."""
    before, after = (_normal(text) for text in (handed_out(exercise), source))
    if after is None:
        return len(before)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    blocks = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    return sum(max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in blocks)


def _normal(source):
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree).split("\n")
