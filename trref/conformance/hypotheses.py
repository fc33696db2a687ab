"""What does a deviating implementation compute instead? Each hypothesis is a changed reference after which all agree.

A hypothesis has two halves: a *base*, another function of the same inputs (the reference itself, the reference with a
keyword ignored, with its mask ignored, with two inputs swapped, another setting, a known deviation, another catalogued
function), and a *relation* between its result and the implementation's (equal, the opposite sign, a factor, a factor
that depends on the shape, an offset, or something amiss with the gradient alone).
"""

import dataclasses
import inspect
import itertools
import math

import numpy as np

from trref import catalog, checks
from trref.conformance import trials as trials_

__all__ = ["Explanation", "explain", "related"]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One hypothesis that fits all answers."""

    text: str
    seen_in: str | None = None
    documented: bool = False

    def __str__(self):
        where = (
            f" (seen: {self.seen_in}{'; documented there' if self.documented else ''})"
            if self.seen_in
            else ""
        )
        return self.text + where


@dataclasses.dataclass(frozen=True)
class Base:
    """A changed reference: ``parts(trial) -> dict``."""

    text: str
    parts: object
    deviation: object = None


def explain(record, answered, *, most=3):
    """Return the hypotheses that fit, the simplest first.

    Parameters
    ----------
    record : Record
    answered : list of (Trial, Answer)
        In double precision, without errors.
    most : int

    Returns
    -------
    list of Explanation
    """
    answered = [
        (t, a)
        for t, a in answered
        if all(np.isfinite(part).all() for part in a.parts.values())
    ]
    if not answered:
        return []
    evaluated = [
        (base, results)
        for base in _bases(record, answered)
        if (results := _evaluate(base, answered))
    ]
    reference, others = evaluated[:1], evaluated[1:]
    if not reference or _equal(record, answered, reference[0][1]):
        return []  # what fails are errors, NaN or single precision; any relation would fit the rest
    # what it computes exactly; else what sets it apart from the reference; else what sets it apart from something else
    passes = (
        (others, RELATIONS[:1]),
        (reference, RELATIONS[1:]),
        (others, RELATIONS[1:3]),
    )
    for bases, relations in passes:
        found = [
            e
            for base, results in bases
            if (e := _related(record, answered, base, results, relations))
        ]
        if found:
            return found[:most]
    text = _through_stopped(record, answered)
    return [Explanation(text)] if text else []


def related(record, answered, results):
    """Return the relation, other than equality, of a function's results to the answers; or None."""
    for (_, answer), parts in zip(answered, results, strict=True):
        if not any(_alike(parts.get(n), found) for n, found in answer.parts.items()):
            return None
    found = (relation(record, answered, results) for relation in RELATIONS[1:])
    return next((text for text in found if text), None)


def _alike(part, found):
    return part is not None and part.shape == found.shape


def _related(record, answered, base, results, relations):
    """Return the explanation by the first relation that fits, or None."""
    for relation in relations:
        if text := relation(record, answered, results):
            joined = ", ".join(
                t for t in (base.text, text if text != "equal" else "") if t
            )
            seen = (
                (base.deviation.seen_in, base.deviation.documented)
                if base.deviation
                else (None, False)
            )
            return Explanation(joined, *seen)
    return None


# ------------------------------------------------------------------------------------------------------------ bases


def _bases(record, answered):
    yield Base("", lambda t: t.expected)
    for deviation in record.deviations:
        yield Base(
            f"computes the known deviation '{deviation.name}': {deviation.computes}",
            _deviation(record, deviation),
            deviation,
        )
    defaults = {
        k: v
        for k, v in record.hyper_parameters.items()
        if isinstance(v, int | float | str | bool)
    }
    for keyword, default in defaults.items():
        values = [
            default,
            *(h[keyword] for h in record.settings.values() if keyword in h),
        ]
        for value in dict.fromkeys(values + _common(default)):
            text = f"computes with {keyword} = {value} whatever is passed"
            yield Base(
                text,
                lambda t, k=keyword, v=value: trials_.reference(
                    record, t.inputs, {**t.hyper, k: v}
                ),
            )
    if isinstance(record, catalog.Objective):
        yield from _extra_stop_gradients(record, defaults)
    for setting, hyper in record.settings.items():
        if setting not in ("default", "probe"):
            text = f"computes the setting '{setting}' ({_keywords(hyper)}) whatever is passed"
            yield Base(
                text,
                lambda t, h=hyper: trials_.reference(
                    record, t.inputs, {**t.hyper, **h}
                ),
            )
    for name, spec in record.inputs.items():
        if spec.kind == "mask":
            yield Base(
                f"ignores {name}",
                lambda t, n=name: trials_.reference(
                    record, {**t.inputs, n: np.ones_like(t.inputs[n])}, t.hyper
                ),
            )
    for a, b in itertools.combinations(record.inputs, 2):
        if record.inputs[a] == record.inputs[b]:
            yield Base(
                f"takes {a} for {b} and {b} for {a}",
                lambda t, a=a, b=b: _swapped(record, t, a, b),
            )
    available = set(answered[0][0].inputs)
    for other in catalog.records():
        if (
            other.name == record.name
            or type(other) is not type(record)
            or not set(other.inputs) <= available
        ):
            continue
        for setting, hyper in other.settings.items():
            if setting == "probe":
                continue
            text = f"computes {other.name}" + (
                f" with the setting '{setting}'" if setting != "default" else ""
            )
            yield Base(
                text,
                lambda t, o=other, h=hyper: trials_.reference(
                    o, _only(o, t.inputs), _shared(o, t.hyper, h)
                ),
            )
        for deviation in other.deviations:
            text = f"computes '{deviation.name}', a known deviation of {other.name}: {deviation.computes}"
            yield Base(text, _deviation(other, deviation), deviation)


def _extra_stop_gradients(record, defaults):
    """The value is right, but one input, or the term that a keyword weighs, has no gradient."""
    if len(record.wrt_names) > 1:
        for name in record.wrt_names:
            part = f"gradient by {name}"
            yield Base(
                f"right in value; {name} is held constant: an extra stop-gradient",
                lambda t, part=part: {
                    **t.expected,
                    part: np.zeros_like(t.expected[part]),
                },
            )
    for keyword, default in defaults.items():
        if type(default) is float:
            yield Base(
                f"right in value; the term that {keyword} weighs is held constant: an extra stop-gradient",
                lambda t, k=keyword: {
                    **trials_.reference(record, t.inputs, {**t.hyper, k: 0.0}),
                    "value": t.expected["value"],
                },
            )


def _common(default):
    """Values that a keyword is often fixed at."""
    if (
        isinstance(default, bool)
        or not isinstance(default, int | float)
        or default == 0
    ):
        return []
    return [type(default)(default * c) for c in (0.5, 2, 0.1, 10)]


def _keywords(hyper):
    return ", ".join(f"{k} = {v}" for k, v in hyper.items())


def _swapped(record, trial, a, b):
    return trials_.reference(
        record, {**trial.inputs, a: trial.inputs[b], b: trial.inputs[a]}, trial.hyper
    )


def _only(record, inputs):
    return {k: inputs[k] for k in record.inputs if k in inputs}


def _shared(record, passed, hyper):
    """Another function's hyper-parameters: those passed under the same name, then its setting's."""
    return {
        **{k: v for k, v in passed.items() if k in record.hyper_parameters},
        **hyper,
    }


def _deviation(record, deviation):
    variant = dataclasses.replace(
        record, f=deviation.f, settings={"default": {}}, limits=(), deviations=()
    )
    keywords = inspect.signature(deviation.f).parameters
    return lambda t: trials_.reference(
        variant,
        _only(record, t.inputs),
        {k: v for k, v in t.hyper.items() if k in keywords},
    )


def _evaluate(base, answered):
    """The base's parts for every trial, or None where it cannot be computed or has no part in common."""
    results = []
    for trial, answer in answered:
        try:
            with np.errstate(all="ignore"):  # not every base is made for these inputs
                parts = trials_.align(base.parts(trial), trial.expected)
        except (ValueError, TypeError, ArithmeticError, AttributeError):
            return None
        common = parts.keys() & answer.parts.keys()
        if not common or any(parts[n].shape != answer.parts[n].shape for n in common):
            return None
        results.append(parts)
    return results


# -------------------------------------------------------------------------------------------------------- relations


def _pairs(answered, results, only=None):
    """Yield (trial, part, found, base's, what differences are relative to) for the parts that both have."""
    for (trial, answer), parts in zip(answered, results, strict=True):
        for name, found in answer.parts.items():
            if name in parts and (only is None or only(name)):
                scale = trials_.scale(parts, name)
                yield (
                    trial,
                    name,
                    np.asarray(found, float),
                    np.asarray(parts[name], float),
                    scale,
                )


def _agree(found, wanted, scale, tolerance=trials_.DOUBLE):
    return bool((abs(found - wanted) <= tolerance * scale).all())


def _equal(record, answered, results):
    return (
        "equal"
        if all(_agree(f, w, z) for _, _, f, w, z in _pairs(answered, results))
        else None
    )


def _opposite(record, answered, results):
    return (
        "the opposite sign"
        if all(_agree(f, -w, z) for _, _, f, w, z in _pairs(answered, results))
        else None
    )


def _factor(record, answered, results):
    """One factor, or one that depends on the shapes, for value and gradient alike."""
    if isinstance(record, catalog.UpdateRule | catalog.Solver):
        return None
    return _fit_factor(record, answered, results, None, "")


def _gradient_factor(record, answered, results):
    if not all(
        _agree(f, w, z)
        for _, _, f, w, z in _pairs(answered, results, lambda n: n == "value")
    ):
        return None
    gradients = list(_pairs(answered, results, lambda n: n.startswith("gradient")))
    if not gradients:
        return None
    if all(not f.any() for _, _, f, _, _ in gradients) and any(
        w.any() for _, _, _, w, _ in gradients
    ):
        return "right in value; the gradient is zero (detached)"
    fitted = _fit_factor(
        record,
        answered,
        results,
        lambda n: n.startswith("gradient"),
        "the gradient has ",
    )
    return f"right in value; {fitted}" if fitted else None


def _value_factor(record, answered, results):
    gradients = list(_pairs(answered, results, lambda n: n.startswith("gradient")))
    if not all(_agree(f, w, z) for _, _, f, w, z in gradients):
        return None
    values = list(_pairs(answered, results, lambda n: n == "value"))
    offsets = [float(f - w) for _, _, f, w, _ in values if f.ndim == 0]
    if (
        offsets
        and abs(offsets[0]) > 1e-9
        and max(offsets) - min(offsets) <= 1e-9 * max(1.0, abs(offsets[0]))
    ):
        return f"a constant offset of {offsets[0]:.6g} in the value"
    if not gradients:
        return None
    fitted = _fit_factor(
        record, answered, results, lambda n: n == "value", "the value has "
    )
    return (
        f"right in gradient; {fitted}" if fitted else "right in gradient, not in value"
    )


def _fit_factor(record, answered, results, only, prefix):
    pairs = [
        (t, f, w)
        for t, _, f, w, z in _pairs(answered, results, only)
        if abs(w).max(initial=0.0) > max(1e-9, 1e-3 * z)
    ]
    if len(pairs) < 3:
        return None
    factors = []
    for _, f, w in pairs:
        c = float((f * w).sum() / (w * w).sum())
        if abs(c) < 1e-12 or not _agree(f, c * w, abs(c * w).max(), 1e-8):
            return None
        factors.append(c)
    if max(factors) - min(factors) <= 1e-8 * abs(factors[0]):
        return (
            None
            if abs(factors[0] - 1) < 1e-9
            else f"{prefix}a constant factor of {factors[0]:.6g}"
        )
    shapes = [_shape_quantities(record, t) for t, _, _ in pairs]
    names = set.intersection(*(set(s) for s in shapes))
    for name in sorted(names, key=lambda n: (len(n), n)):
        ratios = [c / s[name] for c, s in zip(factors, shapes, strict=True)]
        if max(ratios) - min(ratios) <= 1e-8 * abs(ratios[0]):
            constant = "" if abs(ratios[0] - 1) < 1e-8 else f"{ratios[0]:.6g} · "
            return f"{prefix}a factor of {constant}{name}"
    return None


def _shape_quantities(record, trial):
    """Numbers that depend on the shapes, by the name a person would give them."""
    sizes = {}
    for name, spec in record.inputs.items():
        value = trial.inputs.get(name)
        if isinstance(value, np.ndarray):
            for option in spec.shape.split("|"):
                words = option.split()
                if len(words) == value.ndim:
                    sizes |= {
                        w: float(n)
                        for w, n in zip(words, value.shape, strict=True)
                        if w.isalpha()
                    }
        if spec.kind == "mask" and isinstance(value, np.ndarray) and value.ndim == 2:
            sizes["tokens in the batch"] = float(value.sum())
            sizes["longest sequence"] = float(value.sum(1).max())
            sizes["sequences with tokens"] = float((value.sum(1) > 0).sum())
    sizes = {k: v for k, v in sizes.items() if v > 0}
    found = {}
    for a, x in sizes.items():
        found |= {a: x, f"1/{a}": 1 / x}
        if x > 1:
            found |= {
                f"sqrt({a}/({a} - 1))": math.sqrt(x / (x - 1)),
                f"sqrt(({a} - 1)/{a})": math.sqrt((x - 1) / x),
            }
            found |= {f"{a}/({a} - 1)": x / (x - 1), f"({a} - 1)/{a}": (x - 1) / x}
        for b, y in sizes.items():
            if a != b:
                found[f"{a}/{b}"] = x / y
                found[f"{a}·{b}"] = x * y
                found[f"1/({a}·{b})"] = 1 / (x * y)
    return found


def _imprecise(record, answered, results):
    """Right to single precision only."""
    pairs = list(_pairs(answered, results))
    if isinstance(record, catalog.Solver) or not all(
        _agree(f, w, z, trials_.SINGLE) for _, _, f, w, z in pairs
    ):
        return None
    if all(np.array_equal(f, f.astype(np.float32)) for _, _, f, _, _ in pairs):
        return "computed in float32 inside (right to 2e-4, not to 1e-9; all results are float32 numbers)"
    return (
        "right to 2e-4, not to 1e-9: float32 inside, a small number in a denominator, or an inner iteration that ends"
        " early"
    )


def _only_masked(record, answered, results):
    """Right wherever the mask is 1."""
    masks = [
        n for n, s in record.inputs.items() if s.kind == "mask" and s.shape == "B T"
    ]
    if len(masks) != 1:
        return None
    for trial, _, f, w, z in _pairs(answered, results):
        mask = trial.inputs[masks[0]]
        if f.shape == mask.shape:
            if not _agree(np.where(mask == 1, f, 0), np.where(mask == 1, w, 0), z):
                return None
        elif not _agree(f, w, z):
            return None
    return "wrong only where the mask is 0"


def _only_at_kinks(record, answered, results):
    """Right wherever the reference's gradient does not hang on the last digits of the inputs."""
    for trial, part, f, w, z in _pairs(answered, results):
        wrong = abs(f - w) > trials_.DOUBLE * z
        if wrong.any():
            if not part.startswith("gradient"):
                return None
            low, high = trials_.hull(record, trial, part)
            if (wrong & (high - low <= 1e-3 * z)).any():
                return None
    return "wrong only at kinks: beyond the gradients on either side"


RELATIONS = (
    _equal,
    _opposite,
    _factor,
    _gradient_factor,
    _value_factor,
    _only_masked,
    _only_at_kinks,
    _imprecise,
)


def _through_stopped(record, answered):
    """The gradient flows through a quantity that the paper holds constant (by differences, to 1e-5)."""
    if not getattr(record, "stopped", None):
        return None
    small = [
        (t, a)
        for t, a in answered
        if all(t.inputs[n].size <= 12 for n in record.wrt_names)
    ]
    for keyword in record.stopped:
        others = [k for k in record.stopped if k != keyword]
        if small and all(_matches_free(record, t, a, others) for t, a in small):
            return f"right in value; the gradient flows through '{keyword}': a missing stop-gradient"
    return None


def _matches_free(record, trial, answer, others):
    frozen = {
        k: catalog.call(record.stopped[k], trial.inputs, trial.hyper) for k in others
    }
    for name in record.wrt_names:
        found, x = answer.parts.get(f"gradient by {name}"), trial.inputs[name]
        if found is None:
            return False
        slopes = np.empty(x.size)
        for i in range(x.size):
            values = []
            for h in (1e-5, -1e-5):
                moved = x.copy()
                moved.flat[i] += h
                values.append(
                    float(
                        checks.run(
                            record,
                            {**trial.inputs, name: moved},
                            {**trial.hyper, **frozen},
                        )[0]
                    )
                )
            slopes[i] = (values[0] - values[1]) / 2e-5
        if not _agree(found.ravel(), slopes, max(abs(slopes).max(), 1e-9), 1e-4):
            return False
    return True
