"""What a submission is asked: the trials of each stage."""

import functools

from trref import catalog
from trref.conformance import trials

__all__ = ["asked_trials", "group_of"]


@functools.lru_cache(maxsize=32)
def asked_trials(name, level, seeds):
    """Return the trials of a function that a level asks for, by stage: ordinary ones before hard ones."""
    record = catalog.find(name)
    found = {"value": [], "gradient": [], "hard": []}
    every = trials.trials(record, record.settings, {}, seeds=seeds, single=level > 2)
    for trial in every:
        if trial.iterate:
            found["gradient"].append(trial)
        elif trial.single or "size" not in trial.label:
            found["hard"].append(trial)
        else:
            found["value"].append(trial)
    return found


def group_of(trial, stage):
    """Return the name under which a trial counts: its setting, or its own."""
    if "size" in trial.label:
        return "float32" if stage == "hard" else trial.setting
    if "edge" in trial.label:
        return trial.label.split("edge ")[1].split("'")[1]
    return trial.label.rpartition(": ")[2]
