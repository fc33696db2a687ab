"""Change catalogued functions on purpose, and see that `trref verify` notices.

    .venv/bin/python tools/mutate.py ppo cg.cg        # only these families, methods or functions
    .venv/bin/python tools/mutate.py --ci             # the modules that changed, if few, and ten fixed functions
    .venv/bin/python tools/mutate.py                  # the whole catalogue

What is changed: trref/checks/mutants.py. A mutant survives that answers every trial of `verify` as the function itself
does. Survivors must stand in tools/equivalent_mutants/<method>.json, keyed by function and text, with the reason why
they are equivalent.
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trref.checks import mutants  # noqa: E402

MANY = 12  # files that a change may touch and still be mutated by --ci
EQUIVALENT = ROOT / "tools" / "equivalent_mutants"
FIXED = (
    "ppo.clipped_surrogate",
    "ppo.unclipped_surrogate",
    "gae.gae",
    "gae.lambda_return",
    "cg.cg",
    "stiefel.project",
    "stiefel.retract_qr",
    "adam.update",
    "sam.perturbed_gradient",
    "score_models.ddim_step",
)


class TooSlow(BaseException):
    """A mutant that does not end is killed. No `except Exception` may swallow this."""


class Judge:
    """Asks mutants of one record the trials of `verify`, the cheap ones first, until one answer is wrong.

    What the trials expect is computed once. A mutant may take five times as long for a trial as the function itself,
    and half a second (of the processor: a busy machine kills no mutant).
    """

    def __init__(self, record):
        from trref import checks
        from trref.conformance import trials

        strictly = record
        if hasattr(record, "prescribed"):  # what is free to others is not free to change unnoticed
            strictly = dataclasses.replace(record, prescribed=True)
        self.record, self.trials = record, []
        for trial in trials.trials(strictly, record.settings, {}):
            checks.convert(trial.inputs, _freeze)
            start = time.process_time()
            if failure := self._failure(record.f, trial):
                raise RuntimeError(f"{record.name} does not conform to itself: {failure}")
            self.trials.append((time.process_time() - start, trial))
        self.trials.sort(key=lambda pair: pair[0])

    def killed(self, function):
        """Return whether `verify` notices."""

        def stop(*_):
            raise TooSlow

        signal.signal(signal.SIGPROF, stop)
        try:
            for seconds, trial in self.trials:
                signal.setitimer(signal.ITIMER_PROF, 0.5 + 5 * seconds)
                if self._failure(function, trial):
                    return True
        except (TooSlow, Exception):
            return True
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return False

    def _failure(self, function, trial):
        from trref.conformance import Options, trials
        from trref.conformance.worker import InProcess

        return trials.judge(self.record, trial, trials.ask(InProcess(function, Options()), self.record, trial))


def _freeze(array):
    """No mutant may spoil the inputs of the next."""
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


def survivors(name):
    """Return the number of a function's mutants, and those that nothing tells from it."""
    from trref import catalog

    record = catalog.find(name)
    judge, number, alive, reached = Judge(record), 0, [], {}
    for mutant in mutants.mutants(record):
        if mutant.reached and mutant.statement not in reached:
            reached[mutant.statement] = judge.killed(mutant.reached())
        if mutant.reached and not reached[mutant.statement]:
            continue
        lives = not judge.killed(mutant.make())
        if lives and mutant.vectors and not judge.killed(mutant.vectors()):
            continue  # a product of vectors: nothing was exchanged
        number += 1
        alive += [mutant] * lives
    return number, alive


def excuses(module="*"):
    """Return function -> text -> reason, of one file or of all.

    A function is named as its record is, and its file as its method. One without a record may have many callers, for
    which the reason must hold; it is named by its module: "tokens.terms.group_mean" in "tokens.terms.json".
    """
    files = sorted(EQUIVALENT.glob(f"{module}.json"))
    return {name: texts for file in files for name, texts in json.loads(file.read_text(encoding="utf-8")).items()}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What came of one function's mutants; `error` where they could not be judged."""

    name: str
    number: int = 0
    excused: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()
    needless: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @property
    def row(self):
        killed = self.number - len(self.excused) - len(self.alive)
        return {"mutants": self.number, "killed": killed, "equivalent": len(self.excused)}

    def __str__(self):
        if self.error:
            return f"{self.name:40} {self.error}"
        lines = [
            f"{self.name:40} {self.number:4} mutants, {len(self.excused):3} equivalent, {len(self.alive):3} survive,"
            f" {self.seconds:6.1f} s"
        ]
        lines += [f"    EXCUSED, BUT KILLED: {text}" for text in self.needless]
        lines += [f"    SURVIVES: {text}" for text in self.alive]
        return "\n".join(lines)


def judged(name):
    """Return the `Finding` of a function."""
    reviewed, start = excuses(), time.perf_counter()
    try:
        number, alive = survivors(name)
    except Exception as error:  # the other functions are still to be judged
        return Finding(name, error=f"{type(error).__name__}: {error}")
    own = reviewed.get(name, {})
    excused = [m.text for m in alive if m.text in own or m.text in reviewed.get(m.function, {})]
    return Finding(
        name,
        number,
        excused=tuple(excused),
        alive=tuple(m.text for m in alive if m.text not in excused),
        needless=tuple(text for text in own if text not in excused),
        seconds=time.perf_counter() - start,
    )


def comparable(record):
    """Return whether a record's function can have mutants: what draws for itself is not compared case by case."""
    from trref import catalog

    return not isinstance(record, catalog.Sampler) and not getattr(record, "random", False)


def chosen(arguments, ci):
    """Return the records to mutate."""
    from trref import catalog

    able = [record for record in catalog.records() if comparable(record)]
    if ci:
        command = ["git", "diff", "--name-only", "HEAD~1", "--", "trref"]
        changed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
        slugs = {pathlib.Path(path).stem for path in changed}
        if len(slugs) > MANY:  # a merge of many methods is for tools/full.py
            slugs = set()
        return [r for r in able if r.name in FIXED or r.method_name in slugs]
    return [r for r in able if not arguments or {r.name, r.method_name, r.family} & set(arguments)]


def run(names, jobs):
    """Judge the mutants of these functions; print what is found, and return the list of `Finding`s."""
    import multiprocessing

    found = []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for finding in pool.imap_unordered(judged, names):
            print(finding, flush=True)
            found.append(finding)
    total = totals(found)
    left = sum(len(finding.alive) for finding in found)
    print(f"{total['mutants']} mutants of {len(found)} functions: {total['killed']} killed, {left} survive")
    return found


def totals(found):
    return {key: sum(finding.row[key] for finding in found) for key in ("mutants", "killed", "equivalent")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families, methods or functions")
    parser.add_argument("--ci", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    names = [r.name for r in chosen(options.names, options.ci)]
    if not names:
        sys.exit("no such function")
    return int(any(finding.alive or finding.error for finding in run(names, options.jobs)))


if __name__ == "__main__":
    sys.exit(main())
