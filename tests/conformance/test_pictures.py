"""Pictures of an implementation against the catalogue's function, and results that are as good as the catalogue's."""

import re

import numpy as np
import pytest

from trref import catalog
from trref.conformance import picture, trials, verify

NAME = "ppo.clipped_surrogate"


def _without_minimum(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -(np.clip(r, 1 - clip, 1 + clip) * advantage).mean()


def test_a_notebook_shows_both():
    shown = verify(NAME, _without_minimum, sizes=(4,), seeds=(0,))._repr_html_()
    assert "<svg" in shown and shown.count("<polyline") == 2
    assert re.search(r"value along (log_prob|old_log_prob|advantage)\[0\]", shown)
    ours, theirs = re.findall(r'points="([^"]*)"', shown)
    assert ours != theirs and len(ours.split()) == picture.POINTS == len(theirs.split())


def test_equal_functions_have_one_curve():
    shown = verify(NAME, catalog.find(NAME).f, sizes=(4,), seeds=(0,))._repr_html_()
    ours, theirs = re.findall(r'points="([^"]*)"', shown)
    assert ours == theirs


def test_there_is_none_of_other_processes_and_of_solvers(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\n\ndef loss(log_prob, old_log_prob, advantage):\n    return 0.0\n")
    verdict = verify(NAME, f"{path}:loss", explain=False, settings=["default"])
    assert verdict.picture is None and "<svg" not in verdict._repr_html_()
    cg = verify("cg.cg", catalog.find("cg.cg").f, sizes=(4,), seeds=(0,))
    assert "<svg" not in cg._repr_html_()


def test_labels_are_escaped_and_refused_points_left_out():
    record = catalog.find(NAME)
    trial = next(iter(trials.trials(record, {"default": {}}, {}, sizes=(1,), seeds=(0,))))
    (first, *_) = picture.slices(record, trial, lambda t: trials.ask(_Failing(), record, t))
    assert np.isnan(first.theirs).all() and np.isfinite(first.ours).all()
    first.label = "<b>"
    assert "<b>" not in picture.draw(first) and "&lt;b&gt;" in picture.draw(first)


class _Failing:
    def call(self, request):
        from trref.conformance.worker import Answer

        return Answer(error="nothing")


def _ratios(advantage, states, radius, largest, smallest):
    """The budget goes from the smallest advantages to the largest; `largest` and `smallest` settle ties."""
    ratio = np.ones(len(states))
    for s in set(states.tolist()):
        own = np.flatnonzero(states == s)
        budget, best = len(own) * radius / 2, largest(own, advantage)
        for i in sorted((i for i in own if i != best), key=smallest(advantage)):
            taken = min(budget, 1.0)
            ratio[i], ratio[best], budget = ratio[i] - taken, ratio[best] + taken, budget - taken
    return ratio


def _first(own, advantage):
    return own[np.argmax(advantage[own])]


def test_another_maximiser_conforms():
    def other(advantage, states, radius):
        return _ratios(advantage, states, radius, _first, lambda a: lambda i: (a[i], -i))

    assert verify("fiberpo_censoring.tv_trpo_sample", other).conforms


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_what_earns_less_or_spends_more_does_not(factor):
    def other(advantage, states, radius):
        return _ratios(advantage, states, factor * radius, _first, lambda a: lambda i: (a[i], -i))

    assert verify("fiberpo_censoring.tv_trpo_sample", other, explain=False).status == "deviates"
