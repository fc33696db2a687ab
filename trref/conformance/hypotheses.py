"""What does a deviating implementation compute instead? Each hypothesis is a changed reference after which all agree.

A hypothesis has two halves: a *base*, another function of the same inputs (the reference itself, the reference with a
keyword ignored, with its mask ignored, with two inputs swapped, another setting, a known deviation, another catalogued
function), and a *relation* between its result and the implementation's (equal, the opposite sign, a factor, a factor
that depends on the shape, an offset, or something amiss with the gradient alone).
"""

import dataclasses
import math
import time

import numpy as np

from trref import catalog, checks
from trref.conformance import bases
from trref.conformance import trials as trials_

__all__ = ["Explanation", "constant", "explain", "related"]

ROUNDING = 1e-5  # single precision leaves relative errors below


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


def explain(record, answered, *, most=3, rounding=True, seconds=20.0):
    """Return the hypotheses that fit, of the simplest kind that has any.

    Parameters
    ----------
    record : Record
    answered : list of (Trial, Answer)
        In double precision, without errors.
    most : int
    rounding : bool
        Whether it may be right but for rounding: nothing failed otherwise.
    seconds : float
        No further kind of hypothesis is begun afterwards.

    Returns
    -------
    list of Explanation
    """
    deadline = time.monotonic() + seconds
    answered = [
        (t, a)
        for t, a in answered
        if all(np.isfinite(part).all() for part in a.parts.values())
    ]
    reference = bases.Base("", lambda t: t.expected)
    results = _evaluate(reference, answered)
    if not answered or (results and _equal(record, answered, results)):
        return []  # what fails are errors, NaN or float32; any relation would fit the rest
    singles = list(bases.singles(record, answered))
    own = [base for base in singles if base.own]
    relations = RELATIONS if rounding else RELATIONS[:-1]
    kinds = (
        # what it computes exactly; else what sets it apart from the reference; else what
        # sets it apart from something else; else two things at once, or other averages
        (singles, RELATIONS[:1]),
        (bases.constants(record), RELATIONS[:1]),
        ([reference], relations[1:]),
        (singles, RELATIONS[1:3]),
        (bases.swapped_values(record), [_value_alone]),
        (bases.averages(record, answered), RELATIONS[:3]),
        (bases.pairs(record, own), RELATIONS[:1]),
        (own, RELATIONS[3:5] + (_loosely,)),
        (bases.pairs(record, own), RELATIONS[1:3]),
    )
    # answers of other shapes are related to nothing, but may be what something computes
    for some, each in kinds if results else kinds[:1]:
        found = []
        for base in some:
            if e := _related(record, answered, base, each):
                found.append(e)
            if len(found) == most or time.monotonic() > deadline:
                break
        if found:
            return found
    text = _through_stopped(record, answered) if results else None
    return [Explanation(text)] if text else []


def related(record, answered, results):
    """Return the relation, other than equality, of a function's results to the answers; or None."""
    for (_, answer), parts in zip(answered, results, strict=True):
        if not any(_alike(parts.get(n), found) for n, found in answer.parts.items()):
            return None
    found = (relation(record, answered, results) for relation in RELATIONS[1:])
    return next((text for text in found if text), None)


def constant(record, answered):
    """Return the explanation by a constant other than the default, or None."""
    each = (
        _related(record, answered, b, RELATIONS[:1]) for b in bases.constants(record)
    )
    return next((str(e).removeprefix("computes with ") for e in each if e), None)


def _alike(part, found):
    real = part is not None and part.dtype.kind != "c"
    return real and part.shape == found.shape


def _related(record, answered, base, relations):
    """Return the explanation by the first relation that fits, or None."""
    telling = [pair for pair in answered if "size" in pair[0].label]
    head = sorted(telling, key=lambda pair: pair[0].entries)[:4]
    if len(head) > 2:
        relations = [
            r for r in relations if r is _loosely or _fits(record, head, base, r)
        ]
    results = _evaluate(base, answered) if relations else None
    if results is None:
        return None
    kept = [pair for pair, parts in zip(answered, results, strict=True) if parts]
    results = [parts for parts in results if parts]
    for relation in relations:
        if text := relation(record, kept, results):
            texts = [t for t in (base.text, text if text != "equal" else "") if t]
            known = base.deviation
            seen = (known.seen_in, known.documented) if known else (None, False)
            return Explanation(", ".join(texts), *seen)
    return None


def _fits(record, head, base, relation):
    """Whether a relation holds in a few cases; equality is asked of the first alone, first."""
    for some in (head[:1], head) if relation is _equal else (head,):
        results = _evaluate(base, some)
        if results is None or None in results or not relation(record, some, results):
            return False
    return True


FEWEST = 6  # cases that a hypothesis about some of them must explain


def _evaluate(base, answered):
    """The base's parts for every trial; None where it gives nothing that can be compared.

    An entry is None where the base is not asked for so large a trial.
    """
    results = []
    for trial, answer in answered:
        try:
            with np.errstate(all="ignore"):  # not every base is made for these inputs
                parts = base.parts(trial)
        except (ValueError, TypeError, ArithmeticError, AttributeError, KeyError):
            return None
        if parts is not None:
            parts = trials_.align(parts, trial.expected)
            common = parts.keys() & answer.parts.keys()
            if not common or not all(
                _alike(np.asarray(parts[n]), answer.parts[n]) for n in common
            ):
                return None
        results.append(parts)
    asked = sum(parts is not None for parts in results)
    return results if asked == len(results) or asked >= FEWEST else None


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


def _value_alone(record, answered, results):
    """Of bases whose gradient is another one."""
    values = list(_pairs(answered, results, lambda n: n == "value"))
    right = values and all(_agree(f, w, z) for _, _, f, w, z in values)
    return "equal" if right else None


def _loosely(record, answered, results):
    """Right up to a small number somewhere; and not as right as the reference is."""
    errors, others = [], []
    for (trial, _), (_, part, f, w, z) in _by_trial(answered, results):
        errors.append(float(abs(f - w).max(initial=0.0)) / z)
        expected = np.asarray(trial.expected[part], float)
        others.append(float(abs(f - expected).max(initial=0.0)) / z)
    if not errors or max(errors) > trials_.SINGLE or max(others) < 100 * max(errors):
        return None
    rounding = "float32 inside, or " if max(errors) < ROUNDING else ""
    small = "a small number beside it, as in a denominator"
    return f"right to {max(errors):.0e}: {rounding}{small}"


def _by_trial(answered, results):
    for pair, parts in zip(answered, results, strict=True):
        for entry in _pairs([pair], [parts]):
            if entry[1] in pair[0].expected:
                yield pair, entry


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
    """Right, but for rounding, to single precision only."""
    pairs = list(_pairs(answered, results))
    errors = [float(abs(f - w).max(initial=0.0)) / z for _, _, f, w, z in pairs]
    if isinstance(record, catalog.Solver) or max(errors) > trials_.SINGLE:
        return None
    if all(np.array_equal(f, f.astype(np.float32)) for _, _, f, _, _ in pairs):
        return (
            "computed in float32 inside"
            " (right to 2e-4, not to 1e-9; all results are float32 numbers)"
        )
    rounding = "float32 inside, " if max(errors) < ROUNDING else ""
    return (
        f"right to {max(errors):.0e}, not to 1e-9: {rounding}a small number in a"
        " denominator, or an inner iteration that ends early"
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
