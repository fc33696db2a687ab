"""Preference losses against the losses of TRL's trainers as released, PyTorch's autograd, and scikit-learn."""

import numpy as np
import pytest

from trref.catalog import find
from trref.preferences import ipo, kto
from trref.preferences.cpo import arpo, cpo
from trref.preferences.dpo import dpo, hinge, length_normalised, population_loss, reference_free, robust
from trref.preferences.orpo import odds_ratio_loss, orpo
from trref.preferences.rpo import rpo, rpo_per_token
from trref.preferences.simpo import simpo
from trref.preferences.trpa import trpa

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
from tests.peers.trl_preferences import cpo_loss, dpo_loss, gradients, orpo_loss  # noqa: E402

pytestmark = pytest.mark.peer


def _pairs(seed, B=12):
    rng = np.random.default_rng(seed)
    return [-8 + 4 * rng.standard_normal(B) for _ in range(4)]


def _lengths(seed, B=12):
    return [x.astype(float) for x in np.random.default_rng(seed).integers(1, 9, (2, B))]


def _same(ours, theirs, tolerance=1e-12):
    loss, gradient = ours
    assert loss == pytest.approx(theirs[0], rel=tolerance, abs=tolerance)
    for mine, other in zip(gradient, theirs[1:], strict=True):
        assert np.allclose(mine, other, rtol=tolerance, atol=tolerance * abs(other).max(initial=1e-3))


def _trl(loss_type, pairs, **options):
    return gradients(lambda *x: dpo_loss(*x, loss_type=loss_type, **options), *pairs)


def test_dpo_is_sigmoid_of_trl_which_ignores_its_label_smoothing():
    pairs = _pairs(0)
    _same(dpo(*pairs, beta=0.3), _trl("sigmoid", pairs, beta=0.3))
    _same(dpo(*pairs, beta=0.3), _trl("sigmoid", pairs, beta=0.3, label_smoothing=0.2))


def test_robust_and_hinge_are_those_of_trl():
    pairs = _pairs(1)
    _same(robust(*pairs, beta=0.3, label_smoothing=0.2), _trl("robust", pairs, beta=0.3, label_smoothing=0.2))
    _same(hinge(*pairs, beta=0.3), _trl("hinge", pairs, beta=0.3))


def test_length_normalised_is_sigmoid_norm_of_trl():
    pairs, lengths = _pairs(2), _lengths(2)
    theirs = _trl("sigmoid_norm", pairs, beta=1.5, lengths=[torch.tensor(x) for x in lengths])
    _same(length_normalised(*pairs, *lengths, beta=1.5), theirs)


def test_reference_free_and_conservative_are_the_sigmoid_of_trls_cpo():
    chosen, rejected, *_ = _pairs(3)
    theirs = gradients(lambda *x: cpo_loss(*x, loss_type="sigmoid", beta=0.3, label_smoothing=0.2), chosen, rejected)
    _same(reference_free(chosen, rejected, beta=0.3, label_smoothing=0.2), theirs)
    zero = np.zeros(12)
    _same(dpo(chosen, rejected, zero, zero, beta=0.3, label_smoothing=0.2), theirs)


NAMES = ("chosen_log_prob", "rejected_log_prob", "ref_chosen_log_prob", "ref_rejected_log_prob")


OTHERS = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop", "aot", "aot_unpaired", "exo_pair")


@pytest.mark.parametrize("name", OTHERS)
def test_deviations_are_what_trl_computes(name):
    """Its `exo_pair` has the logarithms of the labels in float32."""
    pairs = _pairs(4)
    deviation = next(d for d in find("dpo.dpo").deviations if d.name == name)
    smoothed = {"label_smoothing": 0.1} if name in ("aot", "aot_unpaired", "exo_pair") else {}
    ours = deviation.f(**dict(zip(NAMES, pairs, strict=True)), beta=0.3, **smoothed)
    _same(ours, _trl(name, pairs, beta=0.3, **smoothed), 1e-6 if name == "exo_pair" else 1e-12)


def test_the_pair_form_of_kto_by_autograd():
    """What OpenRLHF's VanillaKTOLoss says: the other side's mean log-ratio, at least 0, and not detached."""

    def loss(chosen, rejected, ref_chosen, ref_rejected):
        u, v = 0.3 * (chosen - ref_chosen), 0.3 * (rejected - ref_rejected)
        over, under = u - v.mean().clamp(min=0), u.mean().clamp(min=0) - v
        return torch.cat([1 - over.sigmoid(), 1 - under.sigmoid()]).mean()

    deviation = next(d for d in find("dpo.dpo").deviations if d.name == "kto_pair")
    for shift in (-3.0, 3.0):  # the point of reference is clamped, and not
        chosen, rejected, *reference = _pairs(5)
        pairs = [chosen + shift, rejected + shift, *reference]
        ours = deviation.f(**dict(zip(NAMES, pairs, strict=True)), beta=0.3)
        _same(ours, gradients(loss, *pairs))


def test_a_linear_policy_is_logistic_regression():
    """Logits φ·θ: β h = β (φ_w - φ_l)·(θ - θ_ref), so that scikit-learn's fit is where DPO's gradient vanishes."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng, beta = np.random.default_rng(6), 0.3
    features, truth, ref_theta = rng.standard_normal((400, 2, 4)), rng.standard_normal(4), rng.standard_normal(4)
    wins = rng.random(400) < 1 / (1 + np.exp(-(features[:, 0] - features[:, 1]) @ truth))
    chosen, rejected = (
        np.where(wins[:, None], *pair) for pair in (features.swapaxes(0, 1), features.swapaxes(0, 1)[::-1])
    )
    X = beta * (chosen - rejected)
    both, labels = np.concatenate([X, -X]), np.repeat([1, 0], 400)  # scikit-learn asks for two classes
    fit = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(both, labels)
    theta = ref_theta + fit.coef_[0]
    pairs = chosen @ theta, rejected @ theta, chosen @ ref_theta, rejected @ ref_theta
    loss, gradient = dpo(*pairs, beta=beta)
    by_theta = chosen.T @ gradient.chosen_log_prob + rejected.T @ gradient.rejected_log_prob
    assert abs(by_theta).max() < 1e-6  # at the reference it is 0.1
    # the normalisers of two answers to one prompt cancel, so logits stand for log-probabilities
    losses = np.logaddexp(0, -X @ fit.coef_[0])
    assert loss == pytest.approx(losses.mean(), rel=1e-12)


def test_the_population_loss_by_autograd():
    rng = np.random.default_rng(7)
    logits, ref_logits, (P, W) = rng.standard_normal(5), rng.standard_normal(5), rng.random((2, 5, 5))
    z = torch.tensor(logits, requires_grad=True)
    u = 0.4 * (z.log_softmax(0) - torch.tensor(ref_logits).log_softmax(0))
    value = -(torch.tensor(W * P) * torch.nn.functional.logsigmoid(u[:, None] - u[None])).sum()
    value.backward()
    loss, gradient = population_loss(logits, ref_logits, P, W, beta=0.4)
    assert loss == pytest.approx(float(value.detach()), rel=1e-12) and np.allclose(gradient, z.grad.numpy(), rtol=1e-10)


def test_simpo_is_that_of_trls_cpo_on_means():
    (chosen, rejected, *_), lengths = _pairs(8), _lengths(8)
    n_w, n_l = (torch.tensor(x) for x in lengths)
    theirs = gradients(
        lambda w, l: cpo_loss(w / n_w, l / n_l, loss_type="simpo", beta=1.5, label_smoothing=0.2, simpo_gamma=0.7),
        chosen,
        rejected,
    )
    _same(simpo(chosen, rejected, *lengths, beta=1.5, gamma=0.7, label_smoothing=0.2), theirs)


def test_ipo_on_means_is_that_of_trl():
    pairs, lengths = _pairs(9), _lengths(9)
    theirs = _trl("ipo", pairs, beta=0.2, lengths=[torch.tensor(x) for x in lengths])
    _same(ipo.length_normalised(*pairs, *lengths, tau=0.2), theirs)
    one = np.ones(12)  # on sums it is the same trainer's loss of answers of one token
    _same(ipo.ipo(*pairs, tau=0.2), _trl("ipo", pairs, beta=0.2, lengths=[torch.tensor(one)] * 2))


def test_ipo_without_a_reference_is_that_of_trls_cpo():
    pairs, lengths = _pairs(10), _lengths(10)
    n_w, n_l = (torch.tensor(x) for x in lengths)
    theirs = gradients(lambda w, l: cpo_loss(w / n_w, l / n_l, loss_type="ipo", beta=0.2), *pairs[:2])
    deviation = find("ipo.length_normalised").deviations[0]
    named = dict(zip((*NAMES, "chosen_length", "rejected_length"), (*pairs, *lengths), strict=True))
    _same(deviation.f(**named, tau=0.2), theirs)


def test_kto_by_autograd():
    """With the mean of mismatched log-ratios detached and clamped after it, as TRL and OpenRLHF have it."""
    rng = np.random.default_rng(11)
    log_prob, ref, other, other_ref = -9 + rng.standard_normal((4, 10))
    label = rng.random(10) < 0.5
    t = torch.tensor(log_prob, requires_grad=True)
    kl = (torch.tensor(other) - torch.tensor(other_ref)).mean().clamp(min=0)
    ratio = t - torch.tensor(ref)
    good, bad = ratio[torch.tensor(label)], ratio[torch.tensor(~label)]
    losses = [1.5 * (1 - (0.3 * (good - kl)).sigmoid()), 0.8 * (1 - (0.3 * (kl - bad)).sigmoid())]
    value = torch.cat(losses).mean()
    value.backward()
    loss, gradient = kto.kto(
        log_prob,
        ref,
        label.astype(float),
        np.asarray(kto.reference_point(other, other_ref)),
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.8,
    )
    assert loss == pytest.approx(float(value.detach()), rel=1e-13) and np.allclose(gradient, t.grad.numpy(), rtol=1e-12)


def test_the_odds_ratio_is_that_of_trl_in_its_single_precision():
    lengths = _lengths(12)
    sums = [-n * x for n, x in zip(lengths, np.random.default_rng(12).uniform(0.01, 3.0, (2, 12)), strict=True)]
    n_w, n_l = (torch.tensor(x) for x in lengths)
    _same(odds_ratio_loss(*sums, *lengths), gradients(lambda w, l: orpo_loss(w / n_w, l / n_l, beta=1.0), *sums), 3e-5)


def test_orpo_by_autograd():
    """As LLaMA-Factory has it, in double precision."""
    lengths = _lengths(13)
    sums = [-n * x for n, x in zip(lengths, np.random.default_rng(13).uniform(0.01, 3.0, (2, 12)), strict=True)]
    n_w, n_l = (torch.tensor(x) for x in lengths)

    def loss(w, l):
        w, l = w / n_w, l / n_l
        odds = w - torch.log1p(-w.exp()) - l + torch.log1p(-l.exp())
        return (-w - 0.3 * torch.nn.functional.logsigmoid(odds)).mean()

    _same(orpo(*sums, *lengths, odds_weight=0.3), gradients(loss, *sums), 1e-11)


def test_cpo_is_that_of_trl_with_the_likelihood_of_all_tokens():
    lengths = _lengths(14)
    sums = [-n * x for n, x in zip(lengths, np.random.default_rng(14).uniform(0.1, 3.0, (2, 12)), strict=True)]
    tokens = lengths[0].sum()

    def loss(w, l):
        contrast = cpo_loss(w, l, loss_type="sigmoid", beta=0.3, label_smoothing=0.2)
        return contrast - 0.7 * w.sum() / tokens  # what its cross-entropy over the batch is

    ours = cpo(*sums, lengths[0], beta=0.3, likelihood_weight=0.7, likelihood="batch_mean", label_smoothing=0.2)
    _same(ours, gradients(loss, *sums))
    named = dict(zip(("chosen_log_prob", "rejected_log_prob", "chosen_length"), (*sums, lengths[0]), strict=True))

    def hinged(w, l):
        return cpo_loss(w, l, loss_type="hinge", beta=0.3) - w.sum() / tokens

    _same(find("cpo.cpo").deviations[0].f(**named, beta=0.3), gradients(hinged, *sums))


def test_arpo_by_autograd():
    """As the authors' cpo_trainer.py has it, with nothing detached."""
    lengths = _lengths(15)
    sums = [-n * x for n, x in zip(lengths, np.random.default_rng(15).uniform(0.1, 3.0, (2, 12)), strict=True)]
    n_w, n_l = (torch.tensor(x) for x in lengths)

    def loss(w, l):
        tau = (0.8 * (0.5 * (w / n_w - l / n_l).abs()).exp() - 1).clamp(max=1.0)
        return -torch.nn.functional.logsigmoid(0.3 * (w - tau * l)).mean() - 0.7 * w.sum() / n_w.sum()

    ours = arpo(*sums, *lengths, beta=0.3, likelihood_weight=0.7, scale=0.8, rate=0.5)
    _same(ours, gradients(loss, *sums), 1e-11)


def test_rpo_by_autograd_and_its_deviation_by_trl():
    """The authors' two code bases; and TRL's sum of its losses "sigmoid" and "sft"."""
    lengths, pairs = _lengths(16), _pairs(16)
    n_w = torch.tensor(lengths[0])
    plain = {"loss_type": "sigmoid", "beta": 0.3}
    ours = rpo(*pairs, beta=0.3, eta=0.2)
    _same(ours, gradients(lambda w, *x: dpo_loss(w, *x, **plain) - 0.3 * 0.2 * w.mean(), *pairs))
    ours = rpo_per_token(*pairs, lengths[0], beta=0.3, eta=0.2)
    _same(ours, gradients(lambda w, *x: dpo_loss(w, *x, **plain) - 0.2 * (w / n_w).mean(), *pairs))

    def trls(*x):
        sft = dpo_loss(*x, loss_type="sft", beta=0.3, lengths=[torch.tensor(n) for n in lengths])
        return dpo_loss(*x, **plain) + 0.2 * sft

    named = dict(zip((*NAMES, "chosen_length"), (*pairs, lengths[0]), strict=True))
    _same(find("rpo.rpo_per_token").deviations[0].f(**named, beta=0.3, eta=0.2), gradients(trls, *pairs))


@pytest.mark.parametrize("levels", [[1, 3, 2, 2, 4, 1], [2, 2, 2, 3, 3, 3]])
def test_trpa_by_autograd(levels):
    """As the authors' core_algos.py and dp_actor.py have it: pairs in a loop, the fallback, a clamped k3."""
    rng, level, group = np.random.default_rng(17), np.array(levels), np.array([0, 0, 0, 1, 1, 1])
    old, ref = -rng.exponential(1.0, (2, 6, 5)) - 0.5
    log_prob = old + rng.standard_normal((6, 5))
    log_prob[0, 0] = old[0, 0] - 3.5  # clamped
    mask = (np.arange(5) < rng.integers(1, 6, 6)[:, None]).astype(float)
    t, m = torch.tensor(log_prob, requires_grad=True), torch.tensor(mask)
    u = ((t - torch.tensor(ref)) * m).sum(1) / m.sum(1)
    pairs = [(i, j) for i in range(6) for j in range(6) if group[i] == group[j] and level[i] < level[j]]
    if pairs:
        h = torch.stack([(2.5 if level[i] == 1 else 1.0) * 0.2 * (u[i] - u[j]) for i, j in pairs])
    else:
        h = torch.where(torch.tensor(level == 1), u, -u)
    d = torch.tensor(old) - t
    k3 = (d.exp() - d - 1).clamp(-10, 10)
    value = -h.sigmoid().log().mean() + 0.3 * (k3 * m).sum() / m.sum()
    value.backward()
    loss, gradient = trpa(log_prob, old, ref, mask, level, group, beta=0.2, kl_weight=0.3)
    assert loss == pytest.approx(float(value.detach()), rel=1e-12)
    assert np.allclose(gradient, t.grad.numpy(), rtol=1e-11, atol=1e-14)
