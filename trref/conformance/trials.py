"""What an implementation is asked, and how its answer is judged. Everything comes from the catalogue's record."""

import dataclasses
import itertools
import warnings

import numpy as np

from trref import backend, catalog, checks, validate
from trref.conformance.worker import Request

__all__ = [
    "DOUBLE",
    "SINGLE",
    "Failure",
    "Trial",
    "hull",
    "inside_hull",
    "judge",
    "reference",
    "request",
    "tolerance",
    "trials",
]

DOUBLE, SINGLE = 1e-9, 2e-4
STEPS = 50
ITERATES = (1, 2, 5)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Inputs and hyper-parameters, and the parts that the reference gives for them.

    Parameters
    ----------
    label, setting : str
    inputs : dict
        What the implementation gets; in float32 where `single`.
    hyper : dict
        Of the setting, defaults included.
    expected : dict
        Parts by name. In single precision: the float64 result at the rounded inputs.
    single : bool
    """

    label: str
    setting: str
    inputs: dict
    hyper: dict
    expected: dict
    single: bool = False

    @property
    def double_inputs(self):
        return checks.convert(self.inputs, _as(np.float64))


@dataclasses.dataclass(frozen=True)
class Failure:
    """One trial that differs: which part, expected and found; or what went wrong instead."""

    trial: Trial
    part: str
    expected: object = None
    found: object = None
    error: str | None = None

    def __str__(self):
        if self.error:
            return f"{self.trial.label}: {self.error}"
        entry = self.worst
        at = f"[{', '.join(map(str, entry))}]" if entry else ""
        return f"{self.trial.label}: {self.part}{at} is {self.found[entry]:.10g}, expected {self.expected[entry]:.10g}"

    @property
    def worst(self):
        """The index of the entry that is furthest off."""
        return tuple(int(i) for i in np.unravel_index(np.nanargmax(abs(self.found - self.expected)), self.found.shape))


def _as(dtype):
    return lambda a: np.asarray(a, dtype) if a.dtype.kind == "f" else a


def reference(record, inputs, hyper):
    """Return the parts of the reference's result for host inputs in float64."""
    with backend.use_backend("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        if isinstance(record, catalog.UpdateRule):
            return _path(record, inputs, hyper)
        result = checks.run(record, inputs, hyper)
    if isinstance(record, catalog.Objective):
        several = result[1] if not isinstance(record.wrt, str) else (result[1],)
        gradients = [getattr(several, n, several[i]) for i, n in enumerate(record.wrt_names)]
        named = {f"gradient by {n}": np.asarray(g) for n, g in zip(record.wrt_names, gradients, strict=True)}
        return {"value": np.asarray(result[0]), **named}
    if isinstance(record, catalog.Solver):
        return {name.replace("result", "solution"): a for name, a in checks.flatten(result[0])}
    return dict(checks.flatten(result))


def _path(record, inputs, hyper):
    params, state, path = inputs["params"], record.init(inputs["params"]), []
    for grads in inputs["gradients"]:
        params, state = record.f(params, grads, state, **hyper)
        path.append(params)
    return {f"params[{i}] by step": np.stack([step[i] for step in path]) for i in range(len(params))}


def trials(record, settings, constants, *, seeds=(0, 1), sizes=(4, 8, 64), single=True):
    """Yield the trials of a record under some of its settings.

    Parameters
    ----------
    record : Record
    settings : mapping of str to mapping
    constants : dict
        Hyper-parameters that the implementation has fixed; the reference gets them too.
    seeds, sizes : sequences of int
    single : bool
        Also in float32.
    """
    defaults = {k: v for k, v in record.hyper_parameters.items() if v is not None}
    chosen = dataclasses.replace(record, settings=settings)
    for case in checks.cases(chosen, sizes=sizes, seeds=seeds):
        inputs, hyper = case.inputs, {**defaults, **case.hyper, **constants}
        if isinstance(record, catalog.UpdateRule):
            inputs = _lengthen(record, inputs)
        yield Trial(case.label, case.setting, inputs, hyper, reference(record, inputs, hyper))
        if single and not isinstance(record, catalog.Solver):
            rounded = checks.convert(inputs, _as(np.float32))
            expected = reference(record, checks.convert(rounded, _as(np.float64)), hyper)
            yield Trial(f"{case.label}, float32", case.setting, rounded, hyper, expected, single=True)
        if isinstance(record, catalog.Solver) and "max_iter" in record.hyper_parameters and "size" in case.label:
            for k in ITERATES:
                limited = {**hyper, "max_iter": k}
                label = f"{case.label}, iterate {k}"
                yield Trial(label, case.setting, inputs, limited, reference(record, inputs, limited))


def _lengthen(record, inputs):
    """Repeat the gradients, each time rescaled and reversed, until there are at least 50 steps."""
    gradients, rng = list(inputs["gradients"]), np.random.default_rng(50)
    while len(gradients) < STEPS:
        scale = rng.choice((0.3, 1.0, 2.0))
        gradients += [
            [scale * (g + g.std() * rng.standard_normal(g.shape)) for g in grads] for grads in gradients[::-1]
        ]
    return {**inputs, "gradients": gradients[: max(STEPS, len(inputs["gradients"]))]}


def request(record, trial):
    """Return what to ask the implementation for a trial."""
    arguments = {"hyper": trial.hyper}
    if isinstance(record, catalog.Objective):
        return Request("objective", trial.inputs, {**arguments, "wrt": record.wrt_names})
    if isinstance(record, catalog.Transform):
        cotangent = _cotangent(trial.expected["result"]).astype(np.float32 if trial.single else float)
        cotangent = cotangent if record.vjp else None
        return Request("transform", trial.inputs, {**arguments, "wrt": record.wrt, "cotangent": cotangent})
    if isinstance(record, catalog.UpdateRule):
        return Request("update", trial.inputs, arguments)
    return Request("solver" if isinstance(record, catalog.Solver) else "estimator", trial.inputs, arguments)


def _cotangent(result):
    return np.random.default_rng(result.size).standard_normal(result.shape)


def judge(record, trial, answer):
    """Return a `Failure`, or None where the answer is the reference's."""
    if answer.error:
        return Failure(trial, "error", error=answer.error)
    if answer.changed:
        return Failure(trial, "inputs", error=f"changed its input {', '.join(answer.changed)} in place")
    expected = dict(trial.expected)
    if "vjp" in answer.parts:
        with backend.use_backend("numpy"):
            cotangent = _cotangent(expected["result"])
            expected["vjp"] = record.vjp(**trial.double_inputs, cotangent=cotangent, **trial.hyper)
    first = next(iter(expected))
    if first not in answer.parts:
        return Failure(trial, first, error=f"gave {', '.join(answer.parts) or 'nothing'}, expected {first}")
    if isinstance(record, catalog.Solver) and "iterate" not in trial.label:
        return _judge_solution(record, trial, answer)
    for part, wanted in expected.items():
        if part in answer.parts and (failure := _differs(record, trial, part, wanted, answer.parts[part])):
            return failure
    return None


def _differs(record, trial, part, wanted, found):
    if found.shape != wanted.shape:
        return Failure(trial, part, error=f"{part} has shape {found.shape}, expected {wanted.shape}")
    if found.dtype.kind not in "fiub":
        return Failure(trial, part, error=f"{part} is of dtype {found.dtype}")
    found = found.astype(float)
    if np.isnan(found).any():
        return Failure(trial, part, error=f"{part} is NaN")
    allowed = tolerance(trial, part)
    if (abs(found - wanted) <= allowed).all():
        return None
    if part.startswith(("gradient", "result", "vjp")) and inside_hull(record, trial, part, found, allowed):
        return None
    return Failure(trial, part, wanted, found)


def tolerance(trial, part):
    """Return the absolute difference allowed: relative to the part, or to a share of the largest one if that is more.

    A sum of terms may cancel; what rounding leaves then is relative to the terms, and the gradient shows their size.
    """
    largest = {name: float(abs(a).max(initial=0.0)) for name, a in trial.expected.items()}
    scale = max(largest.get(part, 0.0), (0.1 if trial.single else 1e-3) * max(largest.values()), 1e-9)
    return (SINGLE if trial.single else DOUBLE) * scale


def inside_hull(record, trial, part, found, allowed):
    """Return whether a part lies within the reference's own range at a kink."""
    low, high = hull(record, trial, part)
    return bool(((found >= low - allowed) & (found <= high + allowed)).all())


def hull(record, trial, part):
    """Return the smallest and largest reference over perturbations of ±64 units in the last place of the inputs."""
    precision = 2.0 ** (-24 if trial.single else -53)
    around = [trial.expected[part]]
    for draw, sign in itertools.product(range(4), (1.0, -1.0)):
        rng = np.random.default_rng(draw)

        def shift(a, rng=rng, sign=sign):
            step = sign * 64 * precision * abs(a)
            return np.asarray(a + step * rng.choice((-1.0, 1.0), a.shape)) if a.dtype.kind == "f" else a

        moved = {
            k: checks.convert(v, shift) if record.inputs[k].kind in ("real", "log_prob", "positive") else v
            for k, v in trial.double_inputs.items()
        }
        around.append(reference(record, moved, trial.hyper).get(part, around[0]))
    return np.min(around, 0), np.max(around, 0)


def _judge_solution(record, trial, answer):
    """A solution is judged by the solver's certificate."""
    with backend.use_backend("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = checks.run(record, trial.inputs, trial.hyper)
        theirs = answer.parts["solution"] if "solution" in answer.parts else None
        if theirs is None or theirs.shape != np.shape(ours[0]):
            shape = None if theirs is None else theirs.shape
            return Failure(trial, "solution", error=f"the solution has shape {shape}, expected {np.shape(ours[0])}")
        figures = record.certificate(ours._replace(**{ours._fields[0]: theirs}), **trial.inputs, **trial.hyper)
    for name, figure in figures.items():
        if not float(figure) <= record.tolerances[name] * 1.001:
            message = f"{name} is {float(figure):.3e}, {record.tolerances[name]:.1e} allowed"
            return Failure(trial, "solution", error=f"the certificate fails: {message}")
    if record.agreement is not None:
        wanted = np.asarray(ours[0], dtype=float)
        if not (abs(theirs - wanted) <= record.agreement * max(float(abs(wanted).max(initial=0.0)), 1e-9)).all():
            return Failure(trial, "solution", wanted, np.asarray(theirs, dtype=float))
    return None
