"""Changed references: what an implementation may compute in the place of the published function.

A known deviation, another catalogued function, the reference at other inputs or with
another constant, two of these at once, or the same terms averaged otherwise.
"""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable

import numpy as np

from trref import catalog
from trref.conformance import trials

__all__ = ["Base", "averages", "constants", "pairs", "singles", "swapped_values"]


@dataclasses.dataclass(frozen=True)
class Change:
    """Other inputs or constants: ``apply(trial) -> trial``.

    `slope` gives, for a trial, what the chain rule multiplies the gradient by an input with.
    """

    apply: Callable
    slope: Callable = lambda trial: {}


@dataclasses.dataclass(frozen=True)
class Base:
    """A changed reference: ``parts(trial) -> dict``. Those that are `own` may be combined."""

    text: str
    parts: Callable
    deviation: catalog.Deviation | None = None
    change: Change | None = None

    @property
    def own(self):
        return self.change is not None or self.text.startswith(KNOWN)


KNOWN = "computes the known deviation"


def singles(record, answered):
    """Yield the bases with one thing changed, the likeliest first."""
    for deviation in record.deviations:
        text = f"{KNOWN} '{deviation.name}': {deviation.computes}"
        yield Base(text, _deviation(record, deviation), deviation)
    for text, change in _changes(record):
        yield _changed(record, text, change)
    if isinstance(record, catalog.Objective):
        yield from _extra_stop_gradients(record)
        yield from _other_answers(record)
    for setting, hyper in record.settings.items():
        if setting not in ("default", "probe"):
            text = f"computes the setting '{setting}' ({_keywords(hyper)})"
            change = Change(lambda t, h=hyper: _with(t, hyper=h))
            yield _changed(record, f"{text} whatever is passed", change)
    available = set(answered[0][0].inputs)
    for other in catalog.records():
        same = type(other) is type(record) and set(other.inputs) <= available
        if other.name != record.name and same:
            yield from _other(other)


def pairs(record, own):
    """Yield the bases with two things changed."""
    for first, second in itertools.product(own, own):
        if first.change is None or first is second:
            continue
        if second.change is not None and own.index(first) > own.index(second):
            continue

        def parts(trial, change=first.change, base=second):
            return _sloped(base.parts(change.apply(trial)), change.slope(trial))

        yield Base(f"{second.text}; and {first.text}", parts, second.deviation)


def swapped_values(record):
    """Yield the bases that exchange the differentiated input: their gradients are others."""
    for a, b in itertools.permutations(record.inputs, 2):
        if record.inputs[a] == record.inputs[b] and a in getattr(
            record, "wrt_names", ()
        ):
            text = f"right in value where {a} and {b} are exchanged:"
            text += f" it takes {a} for {b} and {b} for {a}"
            yield Base(
                text, lambda t, a=a, b=b: _reference(record, _exchanged(t, a, b))
            )


def _reference(record, trial):
    return trials.reference(record, trial.inputs, trial.hyper)


def _with(trial, hyper=None, **inputs):
    return dataclasses.replace(
        trial, inputs={**trial.inputs, **inputs}, hyper={**trial.hyper, **(hyper or {})}
    )


def _changed(record, text, change):
    def parts(trial):
        return _sloped(_reference(record, change.apply(trial)), change.slope(trial))

    return Base(text, parts, change=change)


def _sloped(parts, slopes):
    named = {f"gradient by {name}": slope for name, slope in slopes.items()}
    return {k: v * named[k] if k in named else v for k, v in parts.items()}


def _deviation(record, deviation):
    variant = dataclasses.replace(
        record, f=deviation.f, settings={"default": {}}, limits=(), deviations=()
    )
    keywords = inspect.signature(deviation.f).parameters

    def parts(trial):
        hyper = {k: v for k, v in trial.hyper.items() if k in keywords}
        return trials.reference(variant, _only(record, trial.inputs), hyper)

    return parts


def _other(other):
    """Another function under its settings, and its deviations."""
    for setting, hyper in other.settings.items():
        if setting == "probe":
            continue
        text = f"computes {other.name}"
        text += f" with the setting '{setting}'" if setting != "default" else ""

        def parts(trial, hyper=hyper):
            own = other.hyper_parameters
            passed = {k: v for k, v in trial.hyper.items() if k in own}
            return trials.reference(
                other, _only(other, trial.inputs), {**passed, **hyper}
            )

        yield Base(text, parts)
    for deviation in other.deviations:
        text = f"computes '{deviation.name}', a known deviation of {other.name}:"
        text += f" {deviation.computes}"
        yield Base(text, _deviation(other, deviation), deviation)


def _only(record, inputs):
    return {k: inputs[k] for k in record.inputs if k in inputs}


def _keywords(hyper):
    return ", ".join(f"{k} = {v}" for k, v in hyper.items())


def _other_answers(record):
    """The chosen answers of pairs in the place of the rejected ones: all that is said of them, gradients included."""
    names = [n for n in record.inputs if _opposite(n) != n]

    def parts(trial):
        given = {n: trial.inputs.get(_opposite(n), trial.inputs[n]) for n in names}
        found = _reference(record, _with(trial, **given))
        return {part: found[_opposite(part)] for part in found}

    if names:
        yield Base(
            "takes chosen answers for rejected ones, and these for chosen", parts
        )


def _opposite(name):
    old, new = ("chosen", "rejected") if "chosen" in name else ("rejected", "chosen")
    return name.replace(old, new)


# ---- other inputs


def _changes(record):
    """Yield (text, Change): what is easily mistaken for what, ignored or added."""
    inputs = record.inputs
    for keyword, default in _numbers_and_choices(record).items():
        own = [h[keyword] for h in record.settings.values() if keyword in h]
        for value in dict.fromkeys([default, *own, *_common(default)]):
            text = f"computes with {keyword} = {value} whatever is passed"
            yield text, Change(lambda t, k=keyword, v=value: _with(t, hyper={k: v}))
    for name, spec in inputs.items():
        if spec.kind == "mask":
            change = Change(
                lambda t, n=name: _with(t, **{n: np.ones_like(t.inputs[n])})
            )
            yield f"ignores {name}", change
    for a, b in itertools.combinations(inputs, 2):
        if inputs[a] == inputs[b]:
            exchange = Change(lambda t, a=a, b=b: _exchanged(t, a, b))
            yield f"takes {a} for {b} and {b} for {a}", exchange
    for a, b in itertools.permutations(inputs, 2):
        if inputs[a] == inputs[b]:
            replace = Change(lambda t, a=a, b=b: _with(t, **{b: t.inputs[a]}))
            constant = (
                ", held constant" if a in getattr(record, "wrt_names", ()) else ""
            )
            yield f"ignores {b} and takes {a}{constant}, in its place", replace
    others = [n for n in inputs if n != "log_prob" and n.endswith("log_prob")]
    if "log_prob" in inputs and len(others) == 1:
        for bound in (10.0, 20.0):
            yield _clamped(others[0], bound)
    if "advantage" in inputs:
        for ddof, which in ((1, "sample"), (0, "population")):
            text = f"standardises advantage (by the {which} deviation)"
            yield text, Change(lambda t, ddof=ddof: _standardised(t, ddof))


def _exchanged(trial, a, b):
    return _with(trial, **{a: trial.inputs[b], b: trial.inputs[a]})


def _clamped(other, bound):
    """Log-ratios clamped: beyond the bound they are constant."""

    def apply(trial):
        ours, theirs = trial.inputs["log_prob"], trial.inputs[other]
        return _with(trial, log_prob=theirs + np.clip(ours - theirs, -bound, bound))

    def slope(trial):
        return {
            "log_prob": abs(trial.inputs["log_prob"] - trial.inputs[other]) <= bound
        }

    text = f"clamps log_prob - {other} to ±{bound:g}"
    return text, Change(apply, slope)


def _standardised(trial, ddof):
    advantage = trial.inputs["advantage"]
    mask = trial.inputs.get("mask", np.ones(advantage.shape))
    kept = (
        mask == 1
        if np.shape(mask) == advantage.shape
        else np.ones(len(advantage), bool)
    )
    if kept.sum() < 2 or advantage[kept].std() == 0:
        return trial
    centre, spread = advantage[kept].mean(), advantage[kept].std(ddof=ddof)
    return _with(trial, advantage=(advantage - centre) / (spread + 1e-8))


# ---- other constants


def _numbers_and_choices(record):
    own = record.hyper_parameters.items()
    return {k: v for k, v in own if isinstance(v, int | float | str | bool)}


def _common(default):
    """Values that a keyword is often fixed at."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if not number or default == 0:
        return []
    return [type(default)(default * c) for c in (0.5, 2, 0.1, 10)]


ROUND = [
    float(f"{m}e{k}") for k in range(-5, 3) for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
]
NEAR_ONE = [1 - x for x in (0.3, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01, 0.005, 0.001, 1e-4)]


def constants(record):
    """Yield bases with a round number in the place of a constant."""
    for keyword, default in _numbers_and_choices(record).items():
        if type(default) is float:
            for value in dict.fromkeys([*sorted(ROUND, key=_shortness), *NEAR_ONE]):
                text = (
                    f"computes with {keyword} = {value:g} (the default is {default:g})"
                )
                change = Change(lambda t, k=keyword, v=value: _with(t, hyper={k: v}))
                yield Base(text, _changed(record, text, change).parts)


def _shortness(number):
    return abs(math.log10(number)), number


def _extra_stop_gradients(record):
    """The value is right, but one input, or the term that a keyword weighs, has no gradient."""
    if len(record.wrt_names) > 1:
        for name in record.wrt_names:
            text = f"right in value; {name} is held constant: an extra stop-gradient"

            def without(trial, part=f"gradient by {name}"):
                return {**trial.expected, part: np.zeros_like(trial.expected[part])}

            yield Base(text, without)
    for keyword, default in _numbers_and_choices(record).items():
        if type(default) is float:
            text = f"right in value; the term that {keyword} weighs is held constant:"

            def apart(trial, keyword=keyword):
                parts = _reference(record, _with(trial, hyper={keyword: 0.0}))
                return {**parts, "value": trial.expected["value"]}

            yield Base(f"{text} an extra stop-gradient", apart)


# ---- other averages

SMALL = 48  # tokens; each asks the reference once


def _answers(mask):
    return mask / np.maximum(mask.sum(1, keepdims=True), 1) / len(mask)


def _tokens(mask):
    return mask / max(mask.sum(), 1)


def _chunks(size, by_share):
    """Means over the tokens of micro-batches, averaged."""

    def weights(mask):
        parts = [mask[i : i + size] for i in range(0, len(mask), size)]
        shares = [len(p) / len(mask) if by_share else 1 / len(parts) for p in parts]
        return np.concatenate(
            [w * _tokens(p) for w, p in zip(shares, parts, strict=True)]
        )

    return weights


def _in_use(mask):
    return _answers(mask) * len(mask) / max((mask.sum(1) > 0).sum(), 1)


AVERAGES = {
    "over the tokens of each answer, then over the answers": _answers,
    "over all tokens of the batch": _tokens,
    "over all places, padding included": lambda m: np.full(m.shape, 1 / m.size),
    "over the padded width, then over the answers": lambda m: m / m.size,
    "as a sum over tokens, then over the answers": lambda m: m / len(m),
    "as a sum over tokens, divided by the padded width": lambda m: m / m.shape[1],
    "as a sum over all tokens": lambda m: m,
    "over the tokens of each answer, then over the answers that have any": _in_use,
    "over the tokens of micro-batches of 2, then over these": _chunks(2, True),
    "over the tokens of micro-batches of 4, then over these": _chunks(4, True),
    "over the tokens of micro-batches of 8, then over these": _chunks(8, True),
}


def averages(record, answered):
    """Yield bases that average the reference's token terms otherwise, or two of its terms apart.

    The term of a token is the reference's result where the batch is its answer, and the
    mask leaves nothing but the token. Only small batches are asked for.
    """
    masks = [
        n for n, s in record.inputs.items() if s.kind == "mask" and s.shape == "B T"
    ]
    wrt = getattr(record, "wrt_names", ())
    if len(masks) != 1 or len(wrt) != 1 or not isinstance(record, catalog.Objective):
        return
    cache = {}

    def terms(trial, hyper):
        key = trial.label, tuple(hyper.items())
        if key not in cache:
            cache[key] = _terms(record, _with(trial, hyper=hyper), masks[0], wrt[0])
        return cache[key]

    def parts(trial, how):
        """`how` lists weights and the constants of the term that these average."""
        mask = trial.inputs[masks[0]]
        if mask.size > SMALL:
            return None
        value, gradient = 0.0, np.zeros(mask.shape)
        for weigh, sign, hyper in how:
            values, gradients = terms(trial, hyper)
            value = value + sign * (weigh(mask) * values).sum()
            gradient = gradient + sign * weigh(mask) * gradients
        return {"value": np.asarray(value), f"gradient by {wrt[0]}": gradient}

    for text, weigh in AVERAGES.items():
        yield Base(f"averages {text}", lambda t, w=weigh: parts(t, [(w, 1, {})]))
    for keyword in _weights(record):
        for (a, first), (b, second) in itertools.permutations(AVERAGES.items(), 2):
            off = {keyword: 0.0}
            how = [(first, 1, off), (second, 1, {}), (second, -1, off)]
            text = f"the policy term is averaged {a}, but the term that {keyword} weighs {b}"
            yield Base(text, lambda t, how=how: parts(t, how))


def _weights(record):
    """Constants that weigh a term."""
    named = ("beta", "alpha")
    own = _numbers_and_choices(record)
    return [k for k in own if k in named or k.endswith(("_weight", "_coef"))]


def _terms(record, trial, mask, wrt):
    """The values and gradients of single tokens, each (B, T)."""
    B, T = trial.inputs[mask].shape
    values, gradients = np.zeros((B, T)), np.zeros((B, T))
    for i, t in itertools.product(range(B), range(T)):
        alone = {mask: np.eye(T)[t : t + 1]}
        for name, array in trial.inputs.items():
            if name != mask:
                own = isinstance(array, np.ndarray) and array.shape[:1] == (B,)
                alone[name] = array[i : i + 1] if own else array
        parts = _reference(record, _with(trial, **alone))
        values[i, t] = parts["value"]
        gradients[i, t] = parts[f"gradient by {wrt}"][0, t]
    return values, gradients
