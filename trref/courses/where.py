"""Where the failures lie: the fewest circumstances that hold in every case that fails."""

import numpy as np

from trref.conformance.circumstances import CIRCUMSTANCES, unusual
from trref.conformance.trials import ITERATES

__all__ = ["where"]

MOST = 3  # circumstances that are named together


def where(record, outcomes):
    """Say in which cases an implementation fails.

    Parameters
    ----------
    record : Record
    outcomes : list of (Trial, bool)
        Whether the case fails.

    Returns
    -------
    str
        ``"in all 78 cases"``, ``"exactly with a preconditioner (18 cases)"``.
    """
    failing = [t for t, failed in outcomes if failed]
    if not failing:
        return ""
    if len(failing) == len(outcomes):
        return f"in all {len(outcomes)} cases"
    left, named = [(t, failed) for t, failed in outcomes], []
    facts = [(t, _facts(record, t)) for t, _ in outcomes]
    held = {id(t): known for t, known in facts}
    while len(named) < MOST:
        passing = [t for t, failed in left if not failed]
        common = set.intersection(*(held[id(t)] for t in failing)) - set(named)
        rated = {text: sum(text in held[id(t)] for t in passing) for text in common}
        rated = {text: n for text, n in rated.items() if n < len(passing)}
        if not rated:
            break
        best = min(rated, key=lambda text: (rated[text], len(text), text))
        named.append(best)
        left = [(t, failed) for t, failed in left if best in held[id(t)]]
        if not rated[best]:
            break
    count = f"{len(failing)} of {len(outcomes)} cases"
    if not named:
        return f"in {count}, with nothing in common"
    exact = len(left) == len(failing)
    return f"{'exactly' if exact else 'only'} {', '.join(named)} ({count})"


def _facts(record, trial):
    """What holds of a case, in words."""
    found = {f"with {CIRCUMSTANCES[name][0]}" for name in unusual(record, trial)}
    named = [s for s in record.settings if s not in ("default", "probe")]
    found |= {
        f"{'' if s == trial.setting else 'not '}under the setting '{s}'" for s in named
    }
    found.add("in single precision" if trial.single else "in double precision")
    if trial.iterate:
        found |= {
            f"from iterate {k} on" for k in ITERATES if trial.hyper["max_iter"] >= k
        }
    for keyword, value in trial.hyper.items():
        if isinstance(value, str | bool):
            found.add(f"with {keyword} = {value!r}")
        elif isinstance(value, int | float) and not trial.iterate:
            other = (
                "the default"
                if value == record.hyper_parameters.get(keyword)
                else "another value than the default"
            )
            found.add(f"with {keyword} at {other}")
    for name, spec in record.inputs.items():
        value = trial.inputs.get(name)
        if spec.optional:
            found.add(f"{'without' if value is None else 'with'} {name}")
        if isinstance(value, np.ndarray):
            found |= _of_array(name, spec, value)
    return found


def _of_array(name, spec, value):
    found = set()
    if not value.size:
        return {f"where {name} is empty"}
    if value.ndim and len(value) == 1:
        found.add(f"where {name} has one row")
    if value.ndim > 1:
        found.add(f"where {name} has {value.ndim} axes")
    if value.dtype.kind != "f":
        return found
    if spec.kind == "mask":
        return found | (
            {f"where {name} has zeros"}
            if (value == 0).any()
            else {f"where {name} is 1 everywhere"}
        )
    if spec.kind != "log_prob":
        found |= (
            {f"where {name} has negative entries"}
            if (value < 0).any()
            else {f"where {name} has none below 0"}
        )
        found |= {f"where {name} has zeros"} if (value == 0).any() else set()
    if value.size > 1 and len(np.unique(value)) < value.size:
        found.add(f"where entries of {name} are equal")
    if abs(value).max() > 100:
        found.add(f"where {name} has entries above 100")
    return found
