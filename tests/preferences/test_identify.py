"""`trref identify` tells the losses of pairs apart, from functions written independently."""

import numpy as np
import pytest

from trref.conformance import Options, identify, verify


def _mean_of(z, by_chosen, by_rejected):
    """Mean of log(1 + exp(-z)) and its gradients; z's derivatives by the two log-probabilities are given."""
    weight = 1 / (1 + np.exp(np.minimum(z, 700))) / len(z)
    return np.logaddexp(0, -z).mean(), (-weight * by_chosen, -weight * by_rejected)


def summed(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob):
    z = 0.1 * (chosen_log_prob - rejected_log_prob - ref_chosen_log_prob + ref_rejected_log_prob)
    return _mean_of(z, 0.1, -0.1)


def averaged(
    chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob, chosen_length, rejected_length
):
    chosen = (chosen_log_prob - ref_chosen_log_prob) / chosen_length
    rejected = (rejected_log_prob - ref_rejected_log_prob) / rejected_length
    return _mean_of(2 * (chosen - rejected), 2 / chosen_length, -2 / rejected_length)


def reference_free(chosen_log_prob, rejected_log_prob):
    return _mean_of(0.1 * (chosen_log_prob - rejected_log_prob), 0.1, -0.1)


def with_a_margin(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length):
    z = 2 * (chosen_log_prob / chosen_length - rejected_log_prob / rejected_length) - 0.5
    return _mean_of(z, 2 / chosen_length, -2 / rejected_length)


def with_a_ratio(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length):
    z = 2 * (chosen_log_prob / chosen_length - rejected_log_prob / rejected_length - 0.5)
    return _mean_of(z, 2 / chosen_length, -2 / rejected_length)


def squared(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob):
    error = chosen_log_prob - rejected_log_prob - ref_chosen_log_prob + ref_rejected_log_prob - 5
    return (error**2).mean(), (2 * error / len(error), -2 * error / len(error))


def with_likelihood(chosen_log_prob, rejected_log_prob):
    loss, (d_chosen, d_rejected) = reference_free(chosen_log_prob, rejected_log_prob)
    return loss - chosen_log_prob.mean(), (d_chosen - 1 / len(d_chosen), d_rejected)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (summed, "dpo.dpo"),
        (averaged, "dpo.length_normalised"),
        (reference_free, "dpo.reference_free"),
        (with_a_margin, "simpo.simpo"),
        (with_a_ratio, "simpo.simpo, deviation 'the margin is multiplied by beta'"),
        (squared, "ipo.ipo"),
        (with_likelihood, "cpo.cpo"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_it_is_named_and_nothing_else(function, name):
    exact = identify(function, "preference_pair").exact
    assert [m.candidate.text.partition(" (")[0] for m in exact] == [name]


def test_answers_in_each_others_place():
    def exchanged(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob):
        value, (slope, other) = summed(rejected_log_prob, chosen_log_prob, ref_rejected_log_prob, ref_chosen_log_prob)
        return value, (other, slope)

    assert "takes chosen answers for rejected ones" in str(verify("dpo.dpo", exchanged))


def test_with_other_constants():
    def other(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob):
        h = chosen_log_prob - rejected_log_prob - ref_chosen_log_prob + ref_rejected_log_prob
        kept, flipped = _mean_of(0.4 * h, 0.4, -0.4), _mean_of(-0.4 * h, -0.4, 0.4)
        slopes = (0.7 * a + 0.3 * b for a, b in zip(kept[1], flipped[1], strict=True))
        return 0.7 * kept[0] + 0.3 * flipped[0], tuple(slopes)

    options = Options(reference={"beta": 0.4, "label_smoothing": 0.3})
    assert identify(other, "preference_pair", options).exact[0].candidate.record.name == "dpo.dpo"
