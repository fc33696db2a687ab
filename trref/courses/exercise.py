"""An exercise: a catalogued function, a level, a framework; what is asked, in words."""

import dataclasses
import inspect
import re
import textwrap
import typing

from trref import catalog, docstring
from trref.conformance import trials
from trref.courses.plain import page, prose

__all__ = [
    "FRAMEWORKS",
    "LEVELS",
    "STAGES",
    "Exercise",
    "ambiguous",
    "asked",
    "contract",
    "derivative_of",
    "own_labels",
    "questions",
    "signature",
    "stages",
]

FRAMEWORKS = ("numpy", "torch", "jax")
LEVELS = (1, 2, 3)
STAGES = ("value", "gradient", "hard", "errors")
POINTS = {"value": 4.0, "gradient": 3.0, "hard": 2.0, "errors": 1.0}


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function to write.

    Parameters
    ----------
    name : str
        Of the catalogue.
    level : {1, 2, 3}
        1: the value; the gradient by autograd, where the framework has it. 2: value and gradient by hand, every
        iterate of a solver. 3: the hard cases, too, and errors for inputs that must be refused.
    framework : {"numpy", "torch", "jax"}
    points : mapping of str to float
        Of each stage; those that the function or the level does not have count nothing.
    bug : mapping, optional
        Of an implementation with a mistake to be found: ``{"difficulty": …, "seed": …}``.
    """

    name: str
    level: int = 2
    framework: str = "numpy"
    points: dict = dataclasses.field(default_factory=lambda: dict(POINTS))
    bug: dict | None = None

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {LEVELS}, not {self.level!r}")
        if self.framework not in FRAMEWORKS:
            raise ValueError(
                f"framework must be one of {FRAMEWORKS}, not {self.framework!r}"
            )
        unknown = set(self.points) - set(STAGES)
        bad = [
            p
            for p in self.points.values()
            if not (isinstance(p, int | float) and 0 <= p < 1e6)
        ]
        if unknown or bad:
            raise ValueError(
                f"points must be numbers for some of {', '.join(STAGES)}; found {self.points}"
            )
        object.__setattr__(
            self, "name", self.record.name
        )  # of several names for one function the full one

    @property
    def record(self):
        return catalog.find(self.name)

    @property
    def function(self):
        return self.record.f.__name__

    @property
    def stem(self):
        """The name of its file, without the ending."""
        record = self.record
        own = record.f.__name__ == record.method_name
        stem = (
            record.method_name if own else f"{record.method_name}_{record.f.__name__}"
        )
        return f"{stem}_bug" if self.bug else stem

    @property
    def by_hand(self):
        """Whether the gradient is the student's own."""
        return self.level > 1 or self.framework == "numpy"

    @property
    def worth(self):
        """The points of each of its stages."""
        return {stage: float(self.points.get(stage, 0.0)) for stage in stages(self)}

    def as_dict(self):
        return dataclasses.asdict(self)


def stages(exercise):
    """Return the stages that an exercise has, of `STAGES`."""
    record, level, found = exercise.record, exercise.level, ["value"]
    if exercise.bug:
        whole = isinstance(record, catalog.Objective) or (
            isinstance(record, catalog.Solver) and _iterates(record)
        )
        return (*found, *(["gradient"] * whole), "hard")
    if getattr(record, "value_free", False) and (
        level > 1 or exercise.framework != "numpy"
    ):
        found = []
    if isinstance(record, catalog.Objective):
        found += ["gradient"] * (level > 1 or exercise.framework != "numpy")
    if isinstance(record, catalog.Transform) and derivative_of(record):
        by_autograd = exercise.framework != "numpy" and level == 1 and record.vjp
        found += ["gradient"] * bool(level > 1 or by_autograd)
    if isinstance(record, catalog.Solver) and _iterates(record):
        found += ["gradient"] * (level > 1)
    return (*found, *(("hard", "errors") if level > 2 else ()))


def _iterates(record):
    return (
        record.prescribed
        and not record.random
        and "max_iter" in record.hyper_parameters
    )


class Derivative(typing.NamedTuple):
    """The derivative of a transform that a student writes by hand: its name, ours, and its last argument."""

    name: str
    f: typing.Callable
    last: str


def derivative_of(record):
    """Return the `Derivative` of a transform, or None."""
    for kind, last in (("jvp", "tangent"), ("vjp", "cotangent")):
        if f := getattr(record, kind, None):
            return Derivative(f"{record.f.__name__}_{kind}", f, last)
    return None


def ambiguous(record):
    """Whether right results may differ: several solutions, or draws."""
    return isinstance(record, catalog.Sampler) or (
        isinstance(record, catalog.Solver) and record.agreement is None
    )


# ------------------------------------------------------------------------------------------------------- what it says


def own_labels(record):
    """Return the labels of the equations that stand at the function's code, as far as it is tagged."""
    source = inspect.getsource(inspect.unwrap(record.f))
    tags = re.findall(r"#\s*eq\.\s*(.+)", source)
    return tuple(
        dict.fromkeys(label.strip() for tag in tags for label in tag.split(","))
    )


def signature(f, without=(), more=()):
    """Return a signature in Python's own words: names and defaults; `more` names follow the positional ones."""
    parts, star = [], False
    parameters = [
        p for p in inspect.signature(f).parameters.values() if p.name not in without
    ]
    last = sum(p.kind is not p.KEYWORD_ONLY for p in parameters)
    new = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in more]
    for p in [*parameters[:last], *new, *parameters[last:]]:
        if p.kind is p.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        default = "" if p.default is p.empty else f"={_default(p.default)}"
        parts.append(f"{p.name}{default}")
    return f"({', '.join(parts)})"


def _default(value):
    return repr(value.__name__ if isinstance(value, type) else value)


def contract(exercise, derivative=None):
    """Return the docstring of the function to write: numpydoc, with shapes and ranges, and what is asked back."""
    record = exercise.record
    summary, found = docstring.sections(record.f.__doc__)
    held = {*getattr(record, "stopped", {})}
    arguments = {
        h: t
        for h, t in found.get("Parameters", {}).items()
        if h.partition(" :")[0] not in held
    }
    if derivative:
        return _of_derivative(record, derivative, arguments)
    if isinstance(record, catalog.UpdateRule):
        arguments = {h: t for h, t in arguments.items() if not h.startswith("state :")}
        arguments["state"] = "Whatever your `init(params)` returns, or the step before."
    lines = [prose(summary), "", "Parameters", "----------", *_items(arguments)]
    lines += ["", "Returns", "-------", *returned(exercise)]
    if exercise.level > 2:
        raised = found.get("Raises", {}).get("ValueError", "")
        lines += ["", "Raises", "------", "ValueError"]
        lines += textwrap.wrap(
            f"With a message that names the argument. {prose(raised)}", 96, **INDENTED
        )
        if record.refused:
            lines += textwrap.wrap(
                f"Asked for: {', '.join(record.refused)}.", 96, **INDENTED
            )
    return "\n".join(lines)


def _of_derivative(record, derivative, arguments):
    wrt, tangent = record.wrt, derivative.last == "tangent"
    what = (
        f"of the result along a change of {wrt}"
        if tangent
        else f"of <cotangent, result> by {wrt}"
    )
    items = dict(arguments)
    items[derivative.last] = (
        f"The change of {wrt}, of its shape."
        if tangent
        else "An array of the result's shape."
    )
    back = "of the result's shape" if tangent else f"of the shape of {wrt}"
    lines = [
        f"Return the derivative {what}, by hand.",
        "",
        "Parameters",
        "----------",
        *_items(items),
    ]
    return "\n".join([*lines, "", "Returns", "-------", f"array {back}"])


INDENTED = {
    "initial_indent": "    ",
    "subsequent_indent": "    ",
    "break_on_hyphens": False,
}


def _items(items):
    lines = []
    for head, text in items.items():
        lines.append(prose(head))
        lines += textwrap.wrap(prose(" ".join(text.split())), 96, **INDENTED)
    return lines


def returned(exercise):
    """Return the lines that say what the function of an exercise gives back."""
    record, level = exercise.record, exercise.level
    found = docstring.sections(record.f.__doc__)[1].get("Returns", {})
    if isinstance(record, catalog.Objective):
        (loss, said), *more = found.items()
        lines = [f"{loss.partition(' :')[0]} : number"]
        lines += textwrap.wrap(prose(said), 96, **INDENTED) if said else []
        if exercise.framework != "numpy" and level == 1:
            return [*lines, "    Differentiable: its gradient is taken by autograd."]
        if level == 1:
            return lines
        several = len(record.wrt_names) > 1
        kind = f"dict with {', '.join(record.wrt_names)}" if several else "array"
        text = prose(" ".join(t for _, t in more))
        return [
            *lines,
            f"gradient : {kind}",
            *textwrap.wrap(f"By hand. {text}", 96, **INDENTED),
        ]
    if isinstance(record, catalog.Solver):
        text = " ".join(f"{h}: {t}" for h, t in found.items())
        text = f"A dict with the fields of {prose(text)}"
        if level == 1:
            text = f"The first of these fields alone will do. {text}"
        return ["solution : array, or dict", *textwrap.wrap(text, 96, **INDENTED)]
    if isinstance(record, catalog.UpdateRule):
        return [
            "(params, state) : new lists and the new state; nothing is changed in place"
        ]
    lines = _items(found)
    if _fields(record):
        lines.append("    Returned as a dict with these fields.")
    return lines


def _fields(record):
    note = inspect.unwrap(record.f).__annotations__.get("return")
    return tuple(getattr(note, "_fields", ()))


def questions(record):
    """Return two questions about a function, from its record: what it differs from, and what it becomes."""
    found = []
    for deviation in record.deviations[:1]:
        text = f"Some code computes something else: {deviation.computes}. On which inputs does"
        found.append(
            f"{text} the result differ from yours, and would a training curve show it?"
        )
    for limit in record.limits[:1]:
        mine = ", ".join(f"{k} = {v}" for k, v in limit.hyper.items()) or "the defaults"
        there = f" ({limit.place})" if limit.place else ""
        found.append(
            f"With {mine}{there} it equals {limit.to}. Show that from the equations."
        )
    found += [
        f"What must come out in the case '{edge}', and which line of yours sees to it?"
        for edge in record.edges
    ]
    label = next(iter(own_labels(record)), None) or next(
        iter(page(_module(record)).labels), None
    )
    if label:
        found.append(
            f"Which line of yours computes equation [{label}]? Say in a sentence why it may be written so."
        )
    found.append(
        "How do time and memory grow with each length in the shapes of the arguments?"
    )
    return tuple(found[:2])


def _module(record):
    return inspect.getmodule(inspect.unwrap(record.f))


def asked(exercise):
    """Return what the level asks for, a sentence a stage."""
    record, points = exercise.record, exercise.worth
    text = {
        "value": "the right result on ordinary examples, under every setting",
        "gradient": "its gradient"
        + (", by hand" if exercise.level > 1 else ", by autograd"),
        "hard": f"the hard cases ({', '.join(record.edges) or 'float32'})",
        "errors": "a ValueError that names the argument, for inputs that must be refused",
    }
    if (
        isinstance(record, catalog.Transform)
        and exercise.level > 1
        and derivative_of(record)
    ):
        text["gradient"] = (
            f"its derivative by {record.wrt}, by hand: the function {derivative_of(record).name}"
        )
    if isinstance(record, catalog.Solver):
        text["value"] = "the right solution of ordinary problems"
        text["gradient"] = (
            f"every iterate: stopped after {', '.join(map(str, trials.ITERATES))} steps it is ours"
        )
    if isinstance(record, catalog.Sampler):
        text["value"] = (
            "draws with the right moments; the same generator gives the same draws"
        )
    return [
        f"{stage} ({worth:g} points): {text[stage]}" for stage, worth in points.items()
    ]
