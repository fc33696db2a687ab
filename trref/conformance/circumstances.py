"""Circumstances in which conventions are open, or which never come up where code is used.

An implementation that differs in these alone is the published function, except there.
"""

import dataclasses
import itertools

import numpy as np

from trref import checks
from trref.conformance import trials

__all__ = ["CIRCUMSTANCES", "Exemption", "exemptions", "unusual"]


@dataclasses.dataclass(frozen=True)
class Exemption:
    """A circumstance in which an implementation differs: in how many cases, and how."""

    name: str
    cases: int
    example: trials.Failure

    @property
    def text(self):
        return CIRCUMSTANCES[self.name][0]

    def __str__(self):
        shown = self.example.error or str(self.example).removeprefix(
            f"{self.example.trial.label}: "
        )
        return f"with {self.text} ({self.cases} cases): {shown}"


def _empty(record, failure):
    inputs = failure.trial.inputs
    arrays = [a for a in inputs.values() if isinstance(a, np.ndarray)]
    masks = [
        inputs[n] for n, s in record.inputs.items() if s.kind == "mask" and n in inputs
    ]
    rows = (m.sum(-1) == 0 for m in masks if m is not None and m.ndim == 2)
    return any(a.size == 0 for a in arrays) or any(empty.any() for empty in rows)


def _groups_of_one(record, failure):
    groups = failure.trial.inputs.get("group")
    if groups is None or not groups.size:
        return False
    return bool((np.unique(groups, return_counts=True)[1] == 1).any())


def _not_tangent(record, failure):
    inputs, frames = failure.trial.inputs, []
    for name, spec in record.inputs.items():
        if spec.kind == "orthonormal" and inputs.get(name) is not None:
            frames.append((name, inputs[name]))
    for (base, x), (name, z) in ((f, v) for f in frames for v in inputs.items()):
        if name != base and isinstance(z, np.ndarray) and z.shape == x.shape:
            inner = np.swapaxes(x, -1, -2) @ z
            symmetric = abs(inner + np.swapaxes(inner, -1, -2)).max(initial=0.0)
            if symmetric > 1e-6 * max(1.0, abs(z).max(initial=0.0)):
                return True
    return False


def _advantages_of_tokens(record, failure):
    return np.ndim(failure.trial.inputs.get("advantage")) == 2


def _tie(record, failure):
    """The gradient alone is wrong, and only where it hangs on the last digits of the inputs."""
    if failure.error or not failure.part.startswith(("gradient", "vjp")):
        return False
    trial, part = failure.trial, failure.part
    size = trials.scale(trial.expected, part, trial.single)
    allowed = trials.tolerance(trial.expected, part, trial.single)
    wrong = abs(failure.found - failure.expected) > allowed
    low, high = trials.hull(record, trial, part)
    return not (wrong & (high - low <= 1e-3 * size)).any()


def _without_an_end(record, failure):
    solved = failure.trial.solved
    return solved is not None and not solved.converged


def _right_beside(record, failure, ask):
    """The gradient alone is wrong, and is right a few units in the last place away: the
    implementation has a kink there, as where autograd halves the gradient of a tie.
    """
    if failure.error or not failure.part.startswith("gradient"):
        return False
    for moved in itertools.islice(
        checks.nearby(record, failure.trial.double_inputs), 3
    ):
        expected = trials.reference(record, moved, failure.trial.hyper)
        trial = dataclasses.replace(
            failure.trial, inputs=moved, expected=expected, single=False
        )
        if trials.judge(record, trial, ask(trial)):
            return False
    return True


CIRCUMSTANCES = {
    "nonempty": ("answers without tokens, or no data at all", _empty),
    "groups": ("groups of one", _groups_of_one),
    "tangent": ("directions that are not tangent", _not_tangent),
    "answers": ("advantages of tokens", _advantages_of_tokens),
    "solvable": ("problems on which the method cannot converge", _without_an_end),
    "ties": ("ties, where the gradient has a kink", _tie),
}


def unusual(record, trial):
    """The names of the circumstances that hold of a trial's inputs."""
    seen = trials.Failure(trial, "error", error="none")
    found = [name for name, (_, holds) in CIRCUMSTANCES.items() if holds(record, seen)]
    return found + ["ties"] * _at_a_kink(record, trial)


def _at_a_kink(record, trial):
    """Whether the reference's gradient hangs on the last digits of the inputs."""
    for part in trial.expected:
        if part.startswith("gradient"):
            low, high = trials.hull(record, trial, part)
            if (high - low > 1e-3 * trials.scale(trial.expected, part)).any():
                return True
    return False


FEWEST = 6  # cases that must agree outside the circumstances


def exemptions(record, failures, agreed, ask=None):
    """Return the circumstances in which all differences lie, or nothing.

    Parameters
    ----------
    record : Record
    failures : sequence of Failure
    agreed : int
        How many cases agree.
    ask : callable, optional
        ``ask(trial) -> Answer``, of inputs next to those of a failure.

    Returns
    -------
    tuple of Exemption
    """
    if agreed < FEWEST:
        return ()
    met = {}
    for name, (_, holds) in CIRCUMSTANCES.items():
        met[name] = [f for f in failures if holds(record, f)]
    if ask is not None:
        known = {id(f) for f in met["ties"]}
        more = [
            f for f in failures if id(f) not in known and _right_beside(record, f, ask)
        ]
        met["ties"] += more
    left, found = list(failures), []
    while left:
        name = max(met, key=lambda n: sum(any(f is g for g in met[n]) for f in left))
        here = [f for f in left if any(f is g for g in met[name])]
        if not here:
            return ()
        found.append(Exemption(name, len(here), max(here, key=lambda f: f.distance)))
        left = [f for f in left if not any(f is g for g in here)]
    return tuple(found)
