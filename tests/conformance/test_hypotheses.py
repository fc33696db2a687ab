"""What `verify` says about implementations that are wrong in a known way, and that it never accuses right ones."""

import math

import numpy as np
import pytest

from trref import catalog
from trref.conformance import Options, verify
from trref.policy.ppo import clipped_surrogate

NAME = "ppo.clipped_surrogate"


def _terms(log_prob, old_log_prob, advantage, clip):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage)


def _with(change):
    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        return change(log_prob, old_log_prob, advantage, clip)

    return loss


def _gradient(factor):
    def change(log_prob, old_log_prob, advantage, clip):
        value, gradient = clipped_surrogate(log_prob, old_log_prob, advantage, clip=clip)
        return value, factor * gradient

    return change


def _standardised(ddof):
    def change(lp, lo, a, c):
        if len(a) > 1:
            a = (a - a.mean()) / (a.std(ddof=ddof) + 1e-8)
        return _terms(lp, lo, a, c).mean()

    return change


def _by_hand(lp, lo, a, c):
    single = (x.astype(np.float32) for x in (lp, lo, a))
    return _terms(*single, np.float32(c)).mean()


EXPLAINED = {
    "sum": (lambda *x: _terms(*x).sum(), "a factor of N"),
    "sum over N - 1": (lambda *x: _terms(*x).sum() / max(len(x[0]) - 1, 0.5), None),
    "sign": (lambda *x: -_terms(*x).mean(), "the opposite sign"),
    "half": (lambda *x: 0.5 * _terms(*x).mean(), "a constant factor of 0.5"),
    "offset": (lambda *x: _terms(*x).mean() + 3, "a constant offset of 3"),
    "clip ignored": (lambda lp, lo, a, c: _terms(lp, lo, a, 0.2).mean(), "computes with clip = 0.2 whatever is passed"),
    "atari": (lambda lp, lo, a, c: _terms(lp, lo, a, 0.1).mean(), "computes the setting 'atari'"),
    "swapped": (lambda lp, lo, a, c: _terms(lo, lp, a, c).mean(), "takes log_prob for old_log_prob"),
    "unclipped": (lambda lp, lo, a, c: -(np.exp(lp - lo) * a).mean(), "computes ppo.unclipped_surrogate"),
    "minimum": (lambda lp, lo, a, c: -(np.clip(np.exp(lp - lo), 1 - c, 1 + c) * a).mean(), "'without the minimum'"),
    "ddof 1": (_standardised(1), "(sample deviation)"),
    "ddof 0": (_standardised(0), "(population deviation)"),
    "float32": (_by_hand, "float32 inside"),
    "gradient doubled": (_gradient(2.0), "right in value; the gradient has a constant factor of 2"),
    "gradient negated": (_gradient(-1.0), "the gradient has a constant factor of -1"),
    "gradient detached": (_gradient(0.0), "the gradient is zero (detached)"),
}


@pytest.mark.parametrize("how", EXPLAINED)
def test_the_explanation_is_found(how):
    change, text = EXPLAINED[how]
    verdict = verify(NAME, _with(change))
    assert not verdict.conforms
    if text:
        assert any(text in str(e) for e in verdict.explanations), str(verdict)
    assert verdict.smallest is not None
    entries = sum(a.size for a in verdict.smallest.trial.inputs.values())
    assert entries <= 12, "the smallest failing input fits on a screen"


def test_a_deviation_says_where_it_was_seen():
    verdict = verify(NAME, _with(_standardised(1)))
    assert "Stable-Baselines3" in str(verdict) and verdict.explanations[0].documented


def test_no_hypothesis_fits():
    verdict = verify(NAME, _with(lambda *x: np.tanh(_terms(*x).mean())))
    assert not verdict.explanations and "no hypothesis explains" in str(verdict) and "in value" in str(verdict)


def test_a_missing_stop_gradient_is_named():
    record = catalog.find("sam.perturbed_gradient")

    def through(loss_and_grad, theta, rho=0.05):
        """Value and full derivative of L(theta + perturbation(theta)), by differences of the loss."""
        f = lambda t: loss_and_grad(t + record.stopped["perturbation"](loss_and_grad, t, rho=rho))[0]  # noqa: E731
        h = 1e-6
        return f(theta), np.array([(f(theta + h * e) - f(theta - h * e)) / (2 * h) for e in np.eye(theta.size)])

    verdict = verify("sam.perturbed_gradient", through, sizes=(4,), seeds=(0, 1))
    assert any("missing stop-gradient" in str(e) for e in verdict.explanations), str(verdict)


def test_extra_stop_gradients_are_named():
    def without_entropy(**given):
        loss, gradient = catalog.find("ppo.total_objective").f(**given)
        return loss, gradient._replace(entropy=0 * gradient.entropy)

    verdict = verify("ppo.total_objective", without_entropy, sizes=(4,))
    assert any("entropy is held constant: an extra stop-gradient" in str(e) for e in verdict.explanations), str(verdict)

    def divergence_as_a_number(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, kl_weight=0.04):
        inputs = (log_prob, old_log_prob, advantage, mask, ref_log_prob)
        published = catalog.find("kl_estimators.grpo_with_kl").f
        return published(*inputs, clip=clip, kl_weight=kl_weight)[0], published(*inputs, clip=clip, kl_weight=0.0)[1]

    verdict = verify("kl_estimators.grpo_with_kl", divergence_as_a_number, sizes=(4,))
    assert any("the term that kl_weight weighs is held constant" in str(e) for e in verdict.explanations), str(verdict)


def _explained(name, implementation, *texts, **options):
    verdict = verify(name, implementation, Options(**options))
    assert verdict.status == "deviates", str(verdict)
    assert any(all(t in str(e) for t in texts) for e in verdict.explanations), str(verdict)


TOKEN_MEAN = next(d for d in catalog.find("grpo.grpo").deviations if d.name == "mean over all tokens of the batch")


def test_two_slips_at_once():
    """A known deviation that ignores what is passed; one whose log-ratios are clamped, too; one and a small number."""

    def ignoring(log_prob, old_log_prob, advantage, mask, clip=0.2):
        return TOKEN_MEAN.f(log_prob, old_log_prob, advantage, mask, clip=0.4)

    def clamping(log_prob, old_log_prob, advantage, mask, clip=0.2):
        d = log_prob - old_log_prob
        value, gradient = TOKEN_MEAN.f(old_log_prob + np.clip(d, -10, 10), old_log_prob, advantage, mask, clip=clip)
        return value, gradient * (abs(d) <= 10)

    def small(log_prob, old_log_prob, advantage, mask, clip=0.2):
        value, gradient = TOKEN_MEAN.f(log_prob, old_log_prob, advantage, mask, clip=clip)
        few = max(mask.sum(), 1) / (max(mask.sum(), 1) + 1e-5)
        return value * few, gradient * few

    def negative(log_prob, old_log_prob, advantage, mask, clip=0.2):
        value, gradient = TOKEN_MEAN.f(log_prob, old_log_prob, advantage, mask, clip=clip)
        return -3 * value, -3 * gradient

    _explained("grpo.grpo", ignoring, TOKEN_MEAN.name, "and computes with clip = 0.4 whatever is passed")
    _explained("grpo.grpo", clamping, TOKEN_MEAN.name, "and clamps log_prob - old_log_prob to ±10")
    _explained("grpo.grpo", small, TOKEN_MEAN.name, "a small number beside it")
    _explained("grpo.grpo", negative, TOKEN_MEAN.name, "a constant factor of -3")


def test_an_explanation_of_the_default_setting():
    """Of two slips the default setting shows one; the other has no name."""

    def both(log_prob, old_log_prob, advantage, mask, clip=0.2):
        value, gradient = TOKEN_MEAN.f(log_prob, old_log_prob, advantage, mask, clip=clip)
        return value + (clip != 0.2) * log_prob.sum(), gradient + (clip != 0.2)

    _explained("grpo.grpo", both, TOKEN_MEAN.name, "not under others")


def test_a_constant_is_found():
    def loss(log_prob, old_log_prob, advantage):
        r = np.exp(log_prob - old_log_prob)
        return -np.minimum(r * advantage, np.clip(r, 0.7, 1.3) * advantage).mean()

    _explained(NAME, loss, "computes with clip = 0.3 (the default is 0.2)")


def test_an_input_in_the_place_of_another():
    """On policy the ratio is written with the log-probability itself, held constant."""

    def on_policy(log_prob, old_log_prob, advantage, clip=0.2):
        return -advantage.mean(), -advantage / len(advantage)

    _explained(NAME, on_policy, "ignores old_log_prob and takes log_prob, held constant, in its place")

    def wrong_way(log_prob, mask, ref_log_prob):
        d = log_prob - ref_log_prob
        n = max(mask.sum(), 1)
        return ((np.exp(d) - d - 1) * mask).sum() / n, (np.exp(d) - 1) * mask / n

    _explained("kl_estimators.kl_in_loss", wrong_way, "takes log_prob for ref_log_prob and ref_log_prob for log_prob")


def _parts_of_grpo(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip):
    a = advantage if advantage.ndim == 2 else advantage[:, None]
    r, d = np.exp(log_prob - old_log_prob), ref_log_prob - log_prob
    policy = -np.minimum(r * a, np.clip(r, 1 - clip, 1 + clip) * a)
    return policy, np.exp(d) - d - 1, mask / np.maximum(mask.sum(1, keepdims=True), 1) / len(mask)


def test_terms_averaged_otherwise():
    def apart(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, kl_weight=0.04):
        policy, kl, each = _parts_of_grpo(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip)
        return (policy * mask).sum() / max(mask.sum(), 1) + kl_weight * (kl * each).sum()

    def padded(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, kl_weight=0.04):
        policy, kl, each = _parts_of_grpo(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip)
        return (policy * each).sum() + kl_weight * kl.mean()

    def in_batches(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
        a = np.broadcast_to(advantage if advantage.ndim == 2 else advantage[:, None], mask.shape)
        r, total = np.exp(log_prob - old_log_prob), 0.0
        each = -np.minimum(r * a, np.clip(r, 1 - clip_low, 1 + clip_high) * a) * mask
        for i in range(0, len(mask), 2):
            part = slice(i, i + 2)
            total += each[part].sum() / max(mask[part].sum(), 1) * len(mask[part]) / len(mask)
        return total

    name = "kl_estimators.grpo_with_kl"
    _explained(
        name, apart, "averaged over all tokens of the batch, but the term that kl_weight weighs over the tokens of"
    )
    _explained(name, padded, "the term that kl_weight weighs over all places, padding included")
    _explained("dapo.dapo_over_batch", in_batches, "averages over the tokens of micro-batches of 2")


def _data(given):
    return float(np.sum(given["log_prob"]))


NAMELESS = {
    "noise": lambda x, given, i: x * (1 + 1e-3 * np.sin(1e3 * i + 77.7 * np.sum(x))),
    "cubed": lambda x, given, i: x + x**3,
    "shifted by the data": lambda x, given, i: x + 0.01 * np.tanh(_data(given)),
    "a factor of the data": lambda x, given, i: x * (1 + 0.1 * np.cos(_data(given))),
    "rounded": lambda x, given, i: np.round(x, 3),
}


@pytest.mark.parametrize("name", [NAME, "grpo.grpo"])
@pytest.mark.parametrize("how", NAMELESS)
def test_what_has_no_name_is_given_none(name, how):
    published = catalog.find(name).f

    def loss(log_prob, old_log_prob, advantage, mask=None, clip=0.2):
        given = {"log_prob": log_prob, "old_log_prob": old_log_prob, "advantage": advantage, "clip": clip}
        given |= {} if mask is None else {"mask": mask}
        return tuple(NAMELESS[how](np.asarray(x), given, i) for i, x in enumerate(published(**given)))

    verdict = verify(name, loss, sizes=(4, 8))
    assert verdict.status == "deviates" and not verdict.explanations, str(verdict)


def test_exemptions():
    """Right, except where conventions are open: said as such, and forgiven where it is assumed not to come up."""
    published = catalog.find("gspo.gspo").f

    def of_answers(log_prob, old_log_prob, advantage, mask, **clips):
        if advantage.ndim == 2:
            advantage = advantage[:, 0].copy()
        return published(log_prob, old_log_prob, advantage, mask, **clips)

    verdict = verify("gspo.gspo", of_answers)
    assert verdict.status == "conforms except" and [e.name for e in verdict.exemptions] == ["answers"], str(verdict)
    assert "only with advantages of tokens" in str(verdict) and "--assume answers" in str(verdict)
    verdict = verify("gspo.gspo", of_answers, assume=["answers"])
    assert verdict.conforms and "assumed: answers" in str(verdict)
    assert verify("gspo.gspo", of_answers, assume=["groups"]).status == "conforms except"
    with pytest.raises(ValueError, match="nothing is called 'nothing'; there are nonempty"):
        verify("gspo.gspo", of_answers, assume=["nothing"])

    def raises_if_empty(log_prob, old_log_prob, advantage, mask, clip=0.2):
        assert (mask.sum(1) > 0).all()
        return catalog.find("grpo.grpo").f(log_prob, old_log_prob, advantage, mask, clip=clip)

    verdict = verify("grpo.grpo", raises_if_empty)
    assert [e.name for e in verdict.exemptions] == ["nonempty"] and "raised AssertionError" in str(verdict)
    assert verify("grpo.grpo", lambda **given: (0.0, 0 * given["log_prob"])).status == "deviates"


def test_wrong_only_at_kinks():
    """On a clip bound anything between the gradients of either side will do, and nothing else."""
    published = catalog.find(NAME).f

    def at_kinks(log_prob, old_log_prob, advantage, share, clip):
        value, gradient = published(log_prob, old_log_prob, advantage, clip=clip)
        ratio, slope = np.exp(log_prob - old_log_prob), published(log_prob, old_log_prob, advantage, clip=1e9)[1]
        bound = np.where(advantage > 0, 1 + clip, 1 - clip)
        return value, np.where(abs(ratio - bound) < 1e-14, share * slope, gradient)

    def between(log_prob, old_log_prob, advantage, clip=0.2):
        return at_kinks(log_prob, old_log_prob, advantage, 0.5, clip)

    def beyond(log_prob, old_log_prob, advantage, clip=0.2):
        return at_kinks(log_prob, old_log_prob, advantage, 1.5, clip)

    assert verify(NAME, between).conforms
    verdict = verify(NAME, beyond)
    assert any("wrong only at kinks" in str(e) for e in verdict.explanations), str(verdict)


def test_edge_cases_only():
    """Wrong only for a batch of one: the group of failing cases says so."""

    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        terms = _terms(log_prob, old_log_prob, advantage, clip)
        return terms.mean() if len(terms) > 1 else 0.0

    verdict = verify(NAME, loss)
    assert not verdict.conforms and "in edge cases only: one sample" in str(verdict)


# ---- right implementations, written differently: never a false alarm


def _loop(log_prob, old_log_prob, advantage, clip=0.2):
    total = 0.0
    for lp, lo, a in zip(log_prob.tolist(), old_log_prob.tolist(), advantage.tolist(), strict=True):
        r = math.exp(lp - lo)
        total += max(-a * r, -a * min(max(r, 1 - clip), 1 + clip))
    return total / len(log_prob)


def _hinge(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.mean(r * advantage - abs(advantage) * np.maximum(0, np.sign(advantage) * (r - 1) - clip))


def _where(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    limit = np.where(advantage > 0, np.minimum(r, 1 + clip), np.maximum(r, 1 - clip))
    return -np.dot(limit, advantage) / len(r)


def _expm1(log_prob, old_log_prob, advantage, clip=0.2):
    d = np.expm1(log_prob - old_log_prob)
    return -np.mean(advantage + np.minimum(d * advantage, np.clip(d, -clip, clip) * advantage))


def _own_gradient(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    dead = ((advantage > 0) & (r > 1 + clip)) | ((advantage < 0) & (r < 1 - clip))
    return _where(log_prob, old_log_prob, advantage, clip), -np.where(dead, 0, r * advantage) / len(r)


def _other_side_of_the_kink(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    alive = np.where(advantage > 0, r < 1 + clip, r > 1 - clip)
    return _where(log_prob, old_log_prob, advantage, clip), -(alive * r * advantage) / len(r)


def _project(x, z):
    return (np.eye(len(x)) - x @ x.T) @ z + x @ (x.T @ z - z.T @ x) / 2


def _gram_schmidt(x, z):
    y = []
    for column in (x + z).T:
        for _ in range(2):
            for q in y:
                column = column - (q @ column) * q
        y.append(column / np.linalg.norm(column))
    return np.array(y).T


def _cholesky(x, z):
    y = x + z
    return np.linalg.solve(np.linalg.cholesky(y.T @ y), y.T).T


def _gae_sums(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    delta = reward + gamma * (1 - terminated) * next_value - value
    keep = gamma * lam * (1 - np.maximum(terminated, truncated))
    out = np.zeros_like(delta)
    for t in range(len(delta)):
        weight = np.ones_like(delta[0])
        for s in range(t, len(delta)):
            out[t] += weight * delta[s]
            weight = weight * keep[s]
    return out


def _gae_targets(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    cut = np.maximum(terminated, truncated)
    carry, targets = np.zeros_like(value[0]), []
    for t in reversed(range(len(reward))):
        later = (1 - lam) * next_value[t] + lam * (carry + next_value[t] * 0)
        inner = reward[t] + gamma * np.where(cut[t] == 1, (1 - terminated[t]) * next_value[t], later)
        if t == len(reward) - 1:
            inner = reward[t] + gamma * (1 - terminated[t]) * next_value[t]
        carry = inner
        targets.append(inner)
    return np.array(targets[::-1]) - value


def _ddim(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    a, b = alpha_bar, next_alpha_bar
    s2 = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    return np.sqrt(b / a) * x + (np.sqrt(max(1 - b - s2, 0)) - np.sqrt(b * (1 - a) / a)) * noise + np.sqrt(s2) * z


def _adam(params, grads, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    t, m, v = state or (0, [0 * p for p in params], [0 * p for p in params])
    t += 1
    m = [a + (1 - beta1) * (g - a) for a, g in zip(m, grads, strict=True)]
    v = [a + (1 - beta2) * (g * g - a) for a, g in zip(v, grads, strict=True)]
    correction = math.sqrt(1 - beta2**t)
    rate = lr * correction / (1 - beta1**t)
    new = [p - rate * a / (np.sqrt(b) + eps * correction) for p, a, b in zip(params, m, v, strict=True)]
    return new, (t, m, v)


def _sam(loss_and_grad, theta, rho=0.05):
    g = loss_and_grad(theta)[1]
    norm = np.linalg.norm(g)
    return loss_and_grad(theta + (rho / norm * g if norm > 0 else 0 * g))


def _cg(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    import scipy.sparse.linalg as sla

    n = len(b)
    A = sla.LinearOperator((n, n), matvec=matvec, dtype=b.dtype)
    M = sla.LinearOperator((n, n), matvec=preconditioner, dtype=b.dtype) if preconditioner else None
    return sla.cg(
        A, b, x0=x0, rtol=rtol / 2 if max_iter is None or max_iter > 5 else 1e-300, atol=0, maxiter=max_iter, M=M
    )[0]


RIGHT = {
    "loop": (NAME, _loop),
    "hinge form": (NAME, _hinge),
    "where": (NAME, _where),
    "expm1": (NAME, _expm1),
    "own gradient": (NAME, _own_gradient),
    "the other side of the kink": (NAME, _other_side_of_the_kink),
    "unclipped by a dot product": (
        "ppo.unclipped_surrogate",
        lambda log_prob, old_log_prob, advantage: -np.exp(log_prob - old_log_prob) @ advantage / len(advantage),
    ),
    "projection by the complement": ("stiefel.project", _project),
    "Gram-Schmidt": ("stiefel.retract_qr", _gram_schmidt),
    "Cholesky QR": ("stiefel.retract_qr", _cholesky),
    "double sum": ("gae.gae", _gae_sums),
    "targets minus values": ("gae.gae", _gae_targets),
    "DDIM, collected terms": ("score_models.ddim_step", _ddim),
    "Adam, one rate": ("adam.update", _adam),
    "SAM by a norm": ("sam.perturbed_gradient", _sam),
    "SciPy's cg": ("cg.cg", _cg),
}


@pytest.mark.parametrize("how", RIGHT)
def test_no_false_alarm(how):
    name, f = RIGHT[how]
    if f in (_project, _gram_schmidt, _cholesky):
        f = _batched(f)
    verdict = verify(name, f)
    assert verdict.conforms, str(verdict)


def _batched(f):
    def many(x, z):
        if x.ndim == 2:
            return f(x, z)
        return np.stack([many(a, b) for a, b in zip(x, z, strict=True)])

    return many


TORCH = ["min", "max of losses", "excess", "where"]


@pytest.mark.parametrize("how", TORCH)
def test_no_false_alarm_in_torch(how):
    torch = pytest.importorskip("torch")

    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        r = torch.exp(log_prob - old_log_prob)
        if how == "min":
            return -torch.min(r * advantage, r.clamp(1 - clip, 1 + clip) * advantage).mean()
        if how == "max of losses":
            return torch.max(-advantage * r, -advantage * torch.clamp(r, 1 - clip, 1 + clip)).sum() / len(r)
        if how == "where":
            return -torch.where(advantage > 0, r.clamp(max=1 + clip), r.clamp(min=1 - clip)).mul(advantage).mean()
        excess = torch.relu(torch.sign(advantage) * (r - 1) - clip)
        return -(r * advantage - advantage.abs() * excess).mean()

    verdict = verify(NAME, loss, Options(framework="torch"))
    assert verdict.conforms and verdict.compared == "value, gradient by autograd", str(verdict)


def test_torch_optimizers():
    torch = pytest.importorskip("torch")
    names = {"beta1": "betas[0]", "beta2": "betas[1]"}
    assert verify("adam.update", torch.optim.Adam, Options(names=names)).conforms
    wrong = verify("adam.update", torch.optim.NAdam, Options(names=names))
    assert not wrong.conforms


def test_iterates_are_explained_where_solutions_are_right():
    """SciPy's GMRES solves the same systems, but counts restarts, and has its preconditioner on the left."""
    from scipy.sparse.linalg import LinearOperator
    from scipy.sparse.linalg import gmres as theirs

    def solve(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None, restart=None):
        n = len(b)
        A, M = (f and LinearOperator((n, n), matvec=f, dtype=b.dtype) for f in (matvec, preconditioner))
        hyper = {"rtol": rtol, "atol": 0.0, "maxiter": max_iter or 10 * n, "restart": restart or n}
        return theirs(A, b, x0=x0, M=M, **hyper)[0]

    verdict = verify("gmres.gmres", solve)
    assert not verdict.conforms
    assert "preconditioner on the left, and max_iter counts restarts" in str(verdict), str(verdict)
