"""What `verify` found, in words."""

import collections
import dataclasses
import html

import numpy as np

__all__ = ["Verdict"]

NOT_STARTED = "raised NotImplementedError"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes
    ----------
    function, framework : str
    cases : int
    failures : tuple of Failure
    settings, skipped : tuple of str
        Compared, and not compared for want of a keyword.
    compared : str
        Which parts of the results, and how the gradient was obtained.
    explanations : tuple of Explanation
        Hypotheses that fit all answers, the simplest first.
    smallest : Failure or None
        The smallest failing input that was found.
    notes : tuple of str
    seconds : float
    exemptions : tuple of Exemption
        The circumstances in which all differences lie, where these are such.
    assumed : tuple of str
        The circumstances that do not count.
    refusals : tuple of Refusal
        Inputs that must be refused, where these were asked for.
    picture : callable, optional
        Returns a picture of both functions, as SVG; of those called in this process.
    """

    function: str
    framework: str
    cases: int
    failures: tuple
    settings: tuple[str, ...]
    skipped: tuple[str, ...]
    compared: str
    explanations: tuple
    smallest: object
    notes: tuple[str, ...]
    seconds: float
    exemptions: tuple = ()
    assumed: tuple[str, ...] = ()
    refusals: tuple = ()
    picture: object = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def status(self):
        """``"conforms"``, ``"conforms except"``, ``"deviates"``, ``"could not run"`` or ``"not started"``.

        "deviates" also where what must be refused is accepted.
        "could not run" where no case had an answer, or where a call did not come back and
        no answer differs; "not started" where every call raised NotImplementedError.
        """
        unanswered = [f for f in self.failures if f.part in ("error", "lost")]
        lost = any(f.part == "lost" for f in unanswered)
        empty = [f for f in unanswered if f.error.startswith(NOT_STARTED)]
        if empty and len(empty) == self.cases:
            return "not started"
        right = "deviates" if self.accepted else "conforms"
        if not self.failures and self.cases:
            return right
        if len(unanswered) == self.cases or (
            lost and len(unanswered) == len(self.failures)
        ):
            return "could not run"
        if not self.exemptions:
            return "deviates"
        met = {e.name for e in self.exemptions}
        return right if met <= set(self.assumed) else "conforms except"

    @property
    def accepted(self):
        """What was accepted of what must be refused."""
        return tuple(refusal for refusal in self.refusals if refusal.accepted)

    @property
    def conforms(self):
        return self.status == "conforms"

    def __str__(self):
        lines = [f"{self.status.upper()}: {self.function} ({self.framework})"]
        lines.append(
            f"  {self.cases} cases in {self.seconds:.2f} s; settings {', '.join(self.settings)};"
            f" compared: {self.compared}"
        )
        if self.skipped:
            lines.append(
                f"  not compared, for want of the keyword: {', '.join(self.skipped)}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        if self.refusals:
            count = len(self.refusals) - len(self.accepted)
            lines.append(
                f"  refuses {count} of {len(self.refusals)} inputs that must be refused"
            )
            lines += [f"    accepted: {refusal.what}" for refusal in self.accepted]
        if not self.failures:
            return "\n".join(lines)
        if self.status in ("could not run", "not started"):
            reasons = collections.Counter(f.error for f in self.failures)
            lines += [f"  {len(self.failures)} of {self.cases} calls gave no answer"]
            return "\n".join(
                lines
                + [f"    {error} ({n} cases)" for error, n in reasons.most_common(3)]
            )
        lines.append(f"  {len(self.failures)} of {self.cases} cases differ")
        lines += [f"  only {e}" for e in self.exemptions]
        if self.exemptions and {e.name for e in self.exemptions} <= set(self.assumed):
            return "\n".join([*lines, f"  assumed: {', '.join(self.assumed)}"])
        if self.exemptions:
            names = ",".join(e.name for e in self.exemptions)
            lines.append(f"  (--assume {names}: that does not come up)")
        if self.explanations:
            lines += [f"  it {_verb(e)}" for e in self.explanations]
        elif not self.exemptions:
            lines.append("  no hypothesis explains all of them; they differ")
            lines += [f"    {line}" for line in self.groups()]
        shown = [f for f in self.failures if not f.error][:2]
        shown += [f for f in self.failures if f.error][: 3 - len(shown)]
        lines += [f"    {failure}" for failure in shown]
        if self.smallest:
            lines.append("  smallest failing input:")
            lines += [f"    {line}" for line in _print_input(self.smallest)]
        return "\n".join(lines)

    def _repr_html_(self):
        """The same in a notebook, with the verdict in colour, and a picture."""
        first, *lines = str(self).splitlines()
        colour = {"conforms": "green", "deviates": "crimson"}.get(
            self.status, "darkorange"
        )
        rest = html.escape("\n".join(lines))
        drawn = self.picture() if self.picture else ""
        head = f'<b style="color: {colour}">{html.escape(first)}</b>'
        return f"{head}<pre>{rest}</pre>{drawn}"

    def groups(self):
        """Say which groups of cases fail, and how many of each."""
        failed = collections.Counter(f.trial.setting for f in self.failures)
        parts = collections.Counter(f.part for f in self.failures)
        single = sum(f.trial.single for f in self.failures)
        edges = sorted(
            {
                f.trial.label.split("edge ")[1].split("'")[1]
                for f in self.failures
                if "edge" in f.trial.label
            }
        )
        lines = [f"in {part}: {n} cases" for part, n in parts.most_common()]
        lines += [f"under the setting {s}: {n} cases" for s, n in failed.most_common()]
        if single == len(self.failures):
            lines.append("in float32 only")
        if all("edge" in f.trial.label for f in self.failures):
            lines.append("in edge cases only: " + ", ".join(edges))
        return lines

    def as_dict(self):
        """Return everything as what JSON can hold."""
        return {
            "function": self.function,
            "framework": self.framework,
            "status": self.status,
            "conforms": self.conforms,
            "cases": self.cases,
            "failures": [_failure_dict(f) for f in self.failures],
            "settings": list(self.settings),
            "skipped": list(self.skipped),
            "compared": self.compared,
            "exemptions": [
                {"name": e.name, "cases": e.cases, "text": str(e)}
                for e in self.exemptions
            ],
            "explanations": [
                {"text": f"is right, except {e}", "seen_in": None, "documented": False}
                for e in self.exemptions
            ]
            + [dataclasses.asdict(e) for e in self.explanations],
            "smallest": _failure_dict(self.smallest) if self.smallest else None,
            "notes": list(self.notes),
            "refusals": [dataclasses.asdict(r) for r in self.refusals],
            "seconds": self.seconds,
        }


def _verb(explanation):
    text = str(explanation)
    return (
        text
        if text.startswith(("computes", "ignores", "takes"))
        else f"is the published function, but for this: {text}"
    )


def _failure_dict(failure):
    return {
        "case": failure.trial.label,
        "setting": failure.trial.setting,
        "part": failure.part,
        "message": str(failure),
        "inputs": {
            k: v.tolist()
            for k, v in failure.trial.inputs.items()
            if isinstance(v, np.ndarray)
        },
    }


def _print_input(failure):
    trial, shown = failure.trial, 6
    if (
        not failure.error and 0 < failure.distance < np.inf
    ):  # digits that show the difference
        shown = min(17, max(shown, 2 - int(np.floor(np.log10(failure.distance)))))
    inputs = {k: v for k, v in trial.inputs.items() if isinstance(v, np.ndarray)}
    with np.printoptions(suppress=True, linewidth=100, threshold=40):
        lines = [f"{k} = {_text(v, 6)}" for k, v in inputs.items()]
        if trial.hyper:
            lines.append(f"({', '.join(f'{k} = {v}' for k, v in trial.hyper.items())})")
        if failure.error:
            return [*lines, failure.error]
        lines.append(f"expected {failure.part} {_text(failure.expected, shown)}")
        return [*lines, f"found    {failure.part} {_text(failure.found, shown)}"]


def _text(array, digits):
    array = np.asarray(array)
    tiny = array.size and 0 < abs(array).max() < 10.0**-digits
    text = np.array2string(
        array, separator=", ", precision=digits, suppress_small=not tiny
    )
    return " ".join(text.split())
