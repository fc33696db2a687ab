"""Wrong implementations of the classic kinds: `verify` must catch every one, and where the mistake has a name, name it.

Each entry is a mistake that people make: a mean over the padding, a sign, a missing detach, an off-by-one, an epsilon
in the wrong place. The text beside it, where there is one, must stand in one of the explanations.
"""

import math

import numpy as np
import pytest

from trref.conformance import Options, verify

WRONG = {}


def wrong(name, text=None, **options):
    """Note a function under the name of the catalogued one that it gets wrong."""

    def note(f):
        assert f.__name__ not in WRONG
        WRONG[f.__name__] = (name, f, text, Options(**options))
        return f

    return note


# ---- token objectives


def _surrogate(d, A, low, high):
    r = np.exp(d)
    return np.minimum(r * A, np.clip(r, 1 - low, 1 + high) * A)


def _per_token(advantage, mask):
    return np.broadcast_to(advantage[:, None], mask.shape) if advantage.ndim == 1 else advantage


def _terms(log_prob, old_log_prob, advantage, mask, low=0.2, high=0.2):
    return _surrogate(log_prob - old_log_prob, _per_token(advantage, mask), low, high)


def _seq_mean(x, mask):
    return ((x * mask).sum(1) / np.maximum(mask.sum(1), 1)).mean()


def _token_mean(x, mask):
    return (x * mask).sum() / max(mask.sum(), 1)


@wrong("grpo.grpo", "divided by the padded width")
def mean_over_the_padding(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -(_terms(log_prob, old_log_prob, advantage, mask, clip, clip) * mask).mean()


@wrong("grpo.grpo", "ignores mask")
def mask_forgotten(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -_terms(log_prob, old_log_prob, advantage, mask, clip, clip).mean()


@wrong("grpo.grpo", "mean over all tokens of the batch")
def token_mean_for_the_mean_over_answers(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -_token_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


@wrong("grpo.grpo", "dr_grpo.dr_grpo, a constant factor of 8")
def sum_over_the_answer(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -(_terms(log_prob, old_log_prob, advantage, mask, clip, clip) * mask).sum(1).mean()


@wrong("grpo.grpo", "the opposite sign")
def maximised(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return _seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


@wrong("grpo.grpo", "answers without tokens are not counted")
def answers_without_tokens_dropped(log_prob, old_log_prob, advantage, mask, clip=0.2):
    on = mask.sum(1) > 0
    each = (_terms(log_prob, old_log_prob, advantage, mask, clip, clip) * mask).sum(1)[on] / mask.sum(1)[on]
    return -each.mean() if on.any() else 0.0


@wrong("dapo.dapo_over_batch")
def clip_not_higher(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    return -_token_mean(_terms(log_prob, old_log_prob, advantage, mask, clip_low, clip_low), mask)


@wrong("dapo.dapo", "mean over the tokens of the whole batch")
def prompts_forgotten(log_prob, old_log_prob, advantage, mask, group, clip_low=0.2, clip_high=0.28):
    return -_token_mean(_terms(log_prob, old_log_prob, advantage, mask, clip_low, clip_high), mask)


@wrong("dapo.dapo", "computes grpo.grpo")
def answers_for_prompts(log_prob, old_log_prob, advantage, mask, group, clip_low=0.2):
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask), mask)


@wrong("dr_grpo.dr_grpo", "divided by the padded width")
def padded_width(log_prob, old_log_prob, advantage, mask, max_length, clip=0.2):
    return -(_terms(log_prob, old_log_prob, advantage, mask, clip, clip) * mask).mean()


@wrong("dr_grpo.dr_grpo", "computes grpo.grpo")
def length_bias_kept(log_prob, old_log_prob, advantage, mask, max_length, clip=0.2):
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


def _gspo(log_s, advantage, mask, low, high):
    return -_seq_mean(_surrogate(log_s, _per_token(advantage, mask), low, high), mask)


@wrong("gspo.gspo", "not normalised by its length")
def ratio_of_the_whole_answer(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    d = ((log_prob - old_log_prob) * mask).sum(1, keepdims=True)
    return _gspo(d, advantage, mask, clip_low, clip_high)


@wrong("gspo.gspo")
def ratio_over_the_padding(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    d = ((log_prob - old_log_prob) * mask).mean(1, keepdims=True)
    return _gspo(d, advantage, mask, clip_low, clip_high)


@wrong("gspo.gspo")
def arithmetic_mean_of_ratios(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    r = (np.exp(log_prob - old_log_prob) * mask).sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)
    return _gspo(np.log(np.maximum(r, 1e-300)), advantage, mask, clip_low, clip_high)


@wrong("dual_clip.dual_clip", "computes grpo.grpo")
def dual_clip_forgotten(log_prob, old_log_prob, advantage, mask, clip=0.2, bound=3.0):
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


@wrong("dual_clip.dual_clip")
def dual_clip_for_both_signs(log_prob, old_log_prob, advantage, mask, clip=0.2, bound=3.0):
    term = np.maximum(
        _terms(log_prob, old_log_prob, advantage, mask, clip, clip), -bound * abs(_per_token(advantage, mask)) / 2
    )
    return -_seq_mean(term, mask)


@wrong("kl_estimators.kl_in_loss", "takes log_prob for ref_log_prob")
def sign_of_the_log_ratio(log_prob, mask, ref_log_prob, estimator="k3"):
    d = log_prob - ref_log_prob
    return _token_mean({"k1": -d, "k2": d * d / 2, "k3": np.expm1(d) - d}[estimator], mask)


@wrong("kl_estimators.kl_in_loss", "a constant factor of 2", constants={"estimator": "k2"})
def k2_without_the_half(log_prob, mask, ref_log_prob, estimator):
    return _token_mean((log_prob - ref_log_prob) ** 2, mask)


@wrong("kl_estimators.kl_in_loss", constants={"estimator": "k3"})
def k3_without_the_one(log_prob, mask, ref_log_prob, estimator):
    d = ref_log_prob - log_prob
    return _token_mean(np.exp(d) - d, mask)


@wrong("kl_estimators.kl_off_policy", "k3 without the ratio")
def importance_ratio_forgotten(log_prob, old_log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    return _token_mean(np.expm1(d) - d, mask)


@wrong("kl_estimators.grpo_with_kl", constants={"estimator": "k3"})
def divergence_rewarded(
    log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, kl_weight=0.04, estimator="k3"
):
    d = ref_log_prob - log_prob
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip) + kl_weight * (np.expm1(d) - d), mask)


@wrong("kl_estimators.grpo_with_kl", constants={"estimator": "k3"})
def divergence_over_the_padding(
    log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, kl_weight=0.04, estimator="k3"
):
    d = ref_log_prob - log_prob
    return kl_weight * (np.expm1(d) - d).mean() - _seq_mean(
        _terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask
    )


@wrong("a3po.decoupled", "without the weight")
def staleness_weight_forgotten(
    log_prob, old_log_prob, advantage, mask, behavior_log_prob, clip=0.2, weight_cap=None, over_cap="mask"
):
    return -_token_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


@wrong("a3po.decoupled")
def staleness_weight_upside_down(log_prob, old_log_prob, advantage, mask, behavior_log_prob, clip=0.2):
    w = np.exp(behavior_log_prob - old_log_prob)
    return -_token_mean(w * _terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


@wrong("drpo.spo")
def penalty_without_the_advantage(log_prob, old_log_prob, advantage, mask, max_length, radius=0.2):
    r, A = np.exp(log_prob - old_log_prob), _per_token(advantage, mask)
    return -(mask * (r * A - (r - 1) ** 2 / (2 * radius))).sum() / (len(mask) * max_length)


@wrong("f_divergences.divergence", "computes with kind = forward_kl")
def the_other_divergence(logits, old_logits, mask, kind="reverse_kl"):
    from scipy.special import log_softmax

    p, q = log_softmax(logits, -1), log_softmax(old_logits, -1)
    return _token_mean((np.exp(q) * (q - p)).sum(-1), mask)


# ---- other objectives


def _ppo(log_prob, old_log_prob, advantage, clip):
    return -_surrogate(log_prob - old_log_prob, advantage, clip, clip).mean()


def _with_a_gradient(gradient):
    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        r, N = np.exp(log_prob - old_log_prob), len(advantage)
        cut = ((advantage > 0) & (r > 1 + clip)) | ((advantage < 0) & (r < 1 - clip))
        return _ppo(log_prob, old_log_prob, advantage, clip), gradient(r, advantage, cut, clip) / N

    return loss


for _name, _f in {
    "flows through clipped samples": lambda r, A, cut, clip: -r * A,
    "lacks the ratio": lambda r, A, cut, clip: -np.where(cut, 0, A),
    "is cut on both sides": lambda r, A, cut, clip: -np.where(abs(r - 1) > clip, 0, r * A),
}.items():
    WRONG[f"the gradient {_name}"] = ("ppo.clipped_surrogate", _with_a_gradient(_f), None, Options())


@wrong("grpo.grpo", "wrong only where the mask is 0")
def gradient_on_the_padding(log_prob, old_log_prob, advantage, mask, clip=0.2):
    A, r = _per_token(advantage, mask), np.exp(log_prob - old_log_prob)
    cut = ((A > 0) & (r > 1 + clip)) | ((A < 0) & (r < 1 - clip))
    w = 1 / np.maximum(mask.sum(1, keepdims=True), 1) / len(mask)
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask), np.where(cut, 0, -w * r * A)


@wrong("ppo.total_objective", "'half the squared error'")
def half_the_value_loss(
    log_prob, old_log_prob, advantage, value, value_target, entropy, clip=0.2, value_weight=1.0, entropy_weight=0.01
):
    error = np.mean((value - value_target) ** 2) / 2
    return _ppo(log_prob, old_log_prob, advantage, clip) + value_weight * error - entropy_weight * entropy.mean()


@wrong("ppo.total_objective")
def entropy_penalised(
    log_prob, old_log_prob, advantage, value, value_target, entropy, clip=0.2, value_weight=1.0, entropy_weight=0.01
):
    error = np.mean((value - value_target) ** 2)
    return _ppo(log_prob, old_log_prob, advantage, clip) + value_weight * error + entropy_weight * entropy.mean()


@wrong("ppo_penalty.kl_penalty_objective")
def penalty_on_the_reversed_divergence(logits, old_logits, actions, advantage, kl_weight=1.0):
    from scipy.special import log_softmax

    new, old, rows = log_softmax(logits, 1), log_softmax(old_logits, 1), np.arange(len(actions))
    ratio = np.exp(new[rows, actions] - old[rows, actions])
    return -np.mean(ratio * advantage - kl_weight * (np.exp(new) * (new - old)).sum(1))


def _kl(old_logits, logits):
    from scipy.special import log_softmax

    old, new = log_softmax(old_logits, 1), log_softmax(logits, 1)
    return (np.exp(old) * (old - new)).sum(1)


@wrong("natural_gradient.mean_kl_categorical", "a factor of N")
def divergence_summed(old_logits, logits):
    return _kl(old_logits, logits).sum()


@wrong("natural_gradient.mean_kl_categorical", "takes old_logits for logits")
def divergence_reversed(old_logits, logits):
    return _kl(logits, old_logits).mean()


@wrong("natural_gradient.mean_kl_categorical", "a constant factor of 1.442")
def divergence_in_bits(old_logits, logits):
    return _kl(old_logits, logits).mean() / math.log(2)


@wrong("natural_gradient.mean_kl_diag_gaussian", "a constant factor of 2")
def gaussian_divergence_without_the_half(old_mean, old_log_std, mean, log_std):
    v0, v1 = np.exp(2 * old_log_std), np.exp(2 * log_std)
    return (np.log(v1 / v0) + (v0 + (mean - old_mean) ** 2) / v1 - 1).sum(1).mean()


@wrong("natural_gradient.mean_kl_diag_gaussian")
def log_std_taken_for_log_variance(old_mean, old_log_std, mean, log_std):
    v0, v1 = np.exp(old_log_std), np.exp(log_std)
    return 0.5 * (np.log(v1 / v0) + (v0 + (mean - old_mean) ** 2) / v1 - 1).sum(1).mean()


@wrong("sam.perturbed_gradient")
def ascent_not_normalised(loss_and_grad, theta, rho=0.05):
    return loss_and_grad(theta + rho * loss_and_grad(theta)[1])


@wrong("sam.perturbed_gradient", "right in gradient, not in value")
def value_before_the_ascent(loss_and_grad, theta, rho=0.05):
    value, g = loss_and_grad(theta)
    return value, loss_and_grad(theta + rho * g / max(np.linalg.norm(g), 1e-300))[1]


@wrong("sam.perturbed_gradient")
def descent_for_ascent(loss_and_grad, theta, rho=0.05):
    g = loss_and_grad(theta)[1]
    return loss_and_grad(theta - rho * g / max(np.linalg.norm(g), 1e-300))


@wrong("entropic_dual.dual_value", "'entropy sum P (log P - 1)'")
def minus_one_forgotten(f, g, cost, a, b, reg):
    return reg * np.exp((f[:, None] + g - cost) / reg).sum() - f @ a - g @ b


# ---- estimators


def _gae(delta, decay):
    out, last = np.zeros_like(delta), 0.0
    for t in range(len(delta) - 1, -1, -1):
        out[t] = last = delta[t] + decay[t] * last
    return out


@wrong("gae.gae", "truncation treated as termination")
def done_is_done(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    alive = 1 - np.maximum(terminated, truncated)
    return _gae(reward + gamma * alive * next_value - value, gamma * lam * alive)


@wrong("gae.gae")
def across_the_time_limit(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    alive = 1 - terminated
    return _gae(reward + gamma * alive * next_value - value, gamma * lam * alive)


@wrong("gae.gae")
def value_of_the_next_episode(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    following = np.concatenate([value[1:], next_value[-1:]])
    decay = gamma * lam * (1 - np.maximum(terminated, truncated))
    return _gae(reward + gamma * (1 - terminated) * following - value, decay)


@wrong("gae.gae", "flags read one row too late")
def flags_of_the_next_row(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    d, c = (np.concatenate([x[1:], x[-1:]]) for x in (terminated, truncated))
    return _gae(reward + gamma * (1 - d) * next_value - value, gamma * lam * (1 - np.maximum(d, c)))


@wrong("gae.gae", "computes with lam = 1")
def lambda_forgotten(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    decay = gamma * (1 - np.maximum(terminated, truncated))
    return _gae(reward + gamma * (1 - terminated) * next_value - value, decay)


@wrong("gae.gae")
def one_step_too_early(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    delta = reward + gamma * (1 - terminated) * next_value - value
    decay = gamma * lam * (1 - np.maximum(terminated, truncated))
    out, last = np.zeros_like(delta), np.zeros_like(delta[0])
    for t in range(len(delta) - 2, -1, -1):
        out[t] = last = delta[t] + decay[t] * last
    return out


@wrong("gae.gae")
def standardised_inside(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    decay = gamma * lam * (1 - np.maximum(terminated, truncated))
    advantage = _gae(reward + gamma * (1 - terminated) * next_value - value, decay)
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


@wrong("gae.lambda_return", "computes gae.gae")
def advantage_for_the_target(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    decay = gamma * lam * (1 - np.maximum(terminated, truncated))
    return _gae(reward + gamma * (1 - terminated) * next_value - value, decay)


def _by_group(reward, group, f):
    out = np.zeros_like(reward)
    for g in set(group.tolist()):
        out[group == g] = f(reward[group == g])
    return out


@wrong("grpo.group_advantage", "population")
def population_deviation(reward, group, eps=0.0):
    return _by_group(reward, group, lambda r: (r - r.mean()) / (r.std() + eps) if np.ptp(r) > 0 else 0 * r)


@wrong("grpo.group_advantage", constants={"eps": 1e-2})
def epsilon_inside_the_root(reward, group, eps):
    return _by_group(
        reward,
        group,
        lambda r: (r - r.mean()) / math.sqrt(r.var(ddof=1) + eps) if np.ptp(r) > 0 else 0 * r,
    )


@wrong("grpo.group_advantage")
def standardised_over_the_batch(reward, group, eps=0.0):
    return (reward - reward.mean()) / (reward.std(ddof=1) + eps) if np.ptp(reward) > 0 else 0 * reward


@wrong("grpo.group_advantage", "computes with baseline = mean", constants={"std": "none", "baseline": "leave_one_out"})
def mean_of_all_for_that_of_the_others(reward, group, std, baseline):
    return _by_group(reward, group, lambda r: r - r.mean())


@wrong("dr_grpo.centred_advantage", "grpo.group_advantage")
def deviation_not_removed(reward, group):
    return _by_group(reward, group, lambda r: (r - r.mean()) / r.std(ddof=1) if np.ptp(r) > 0 else 0 * r)


@wrong("dapo.dynamic_sampling")
def all_right_kept(reward, group):
    return _by_group(reward, group, lambda r: np.full_like(r, r.any()))


@wrong("dapo.overlong_penalty")
def penalty_from_the_limit_on(length, longest, cache):
    return -np.clip((length - longest) / cache, 0, 1)


@wrong("ppo_penalty.adapt_kl_weight")
def thresholds_of_two(kl_weight, kl, target=0.01):
    return np.where(kl > 2 * target, 2 * kl_weight, np.where(kl < target / 2, kl_weight / 2, kl_weight))


@wrong("ppo.clip_fraction")
def clipped_above_only(log_prob, old_log_prob, clip=0.2):
    return np.mean(np.exp(log_prob - old_log_prob) > 1 + clip)


@wrong("drcgd_consensus.metropolis_weights")
def degrees_without_the_one(adjacency):
    degree = adjacency.sum(1)
    W = adjacency / np.maximum(np.maximum.outer(degree, degree), 1)
    return W + np.diag(1 - W.sum(1))


# ---- transforms


@wrong("stiefel.retract_qr", "LAPACK's signs")
def qr_without_signs(x, z):
    return np.linalg.qr(x + z)[0]


@wrong("stiefel.retract_qr", "computes stiefel_retraction.retract_polar")
def polar_for_qr(x, z):
    u, _, vt = np.linalg.svd(x + z, full_matrices=False)
    return u @ vt


@wrong("stiefel.project")
def projection_without_the_symmetric_part(x, z):
    return z - x @ (np.swapaxes(x, -1, -2) @ z)


@wrong("stiefel_retraction.retract_cayley", "the Cayley transform of")
def cayley_with_the_wrong_w(x, z):
    xt, zt, identity = np.swapaxes(x, -1, -2), np.swapaxes(z, -1, -2), np.eye(x.shape[-2])
    W = z @ xt - x @ zt
    return np.linalg.solve(identity - W / 2, (identity + W / 2) @ x)


@wrong("stiefel_gradient.riemannian_gradient", "computes with metric = canonical")
def always_canonical(x, gradient, metric="euclidean"):
    return gradient - x @ np.swapaxes(gradient, -1, -2) @ x


@wrong("sinkhorn.round_to_feasible")
def rounding_without_the_rest(plan, a, b):
    plan = plan * np.minimum(a / np.maximum(plan.sum(1), 1e-300), 1)[:, None]
    return plan * np.minimum(b / np.maximum(plan.sum(0), 1e-300), 1)


@wrong("score_models.ddim_step", "computes with eta = 0")
def noise_forgotten(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    predicted = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    return math.sqrt(next_alpha_bar) * predicted + math.sqrt(1 - next_alpha_bar) * noise


@wrong("score_models.ddim_step")
def variance_added_twice(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    predicted = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    sigma = eta * math.sqrt((1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar))
    return math.sqrt(next_alpha_bar) * predicted + math.sqrt(1 - next_alpha_bar) * noise + sigma * z


@wrong("entropic_dual.transport_plan", "a constant factor of 2.718")
def plan_without_minus_one(f, g, cost, reg):
    return np.exp((f[:, None] + g - cost) / reg)


def _swap(x):
    return np.swapaxes(x, -1, -2)


@wrong("stiefel_transport.transport", "takes x for y and y for x")
def transport_projected_at_the_start(x, y, z):
    return z - x @ (_swap(x) @ z + _swap(z) @ x) / 2


@wrong("troll_projection.project_kl")
def mixture_of_probabilities(logits, old_logits, radius=0.05):
    from scipy.special import log_softmax

    p, q = log_softmax(logits, -1), log_softmax(old_logits, -1)
    low, high = np.zeros((*p.shape[:-1], 1)), np.ones((*p.shape[:-1], 1))

    def divergence(a):
        return (np.exp(a) * (a - q)).sum(-1, keepdims=True)

    def mixture(share):
        return np.log(share * np.exp(p) + (1 - share) * np.exp(q))

    for _ in range(60):
        middle = (low + high) / 2
        outside = divergence(mixture(middle)) > radius
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return np.where(divergence(p) <= radius, p, mixture(low))


# ---- more estimators


def _tridiagonal(matvec, v, steps):
    """Basis and eigenpairs of Lanczos' matrix, with full orthogonalisation."""
    basis, A = [v / np.linalg.norm(v)], None
    while True:
        V = np.array(basis).T
        A = V.T @ np.array([matvec(b) for b in basis]).T
        w = matvec(basis[-1])
        scale = np.linalg.norm(w)
        for _ in range(2):
            w = w - V @ (V.T @ w)
        if len(basis) == steps or np.linalg.norm(w) <= 1e-10 * scale:
            return np.linalg.eigh((A + A.T) / 2)
        basis.append(w / np.linalg.norm(w))


@wrong("lanczos.lanczos_quadrature")
def weights_not_squared(matvec, v, f, steps=20):
    theta, S = _tridiagonal(matvec, v, steps)
    return v @ v * (abs(S[0]) * f(theta)).sum()


@wrong("lanczos.stochastic_trace", "a factor of M")
def probes_summed(matvec, probes, f, steps=20):
    pairs = [(probe, *_tridiagonal(matvec, probe, steps)) for probe in probes]
    return sum(probe @ probe * (S[0] ** 2 * f(theta)).sum() for probe, theta, S in pairs)


@wrong("cg_lanczos.error_estimate")
def delay_off_by_one(alpha, rz, delay=4):
    return np.array([(alpha * rz)[k : k + delay + 1].sum() for k in range(len(alpha))])


@wrong("gae.policy_gradient_estimate", "a factor of 1/T")
def mean_over_time(score, advantage, discount=1.0):
    weight = discount ** np.arange(len(score)) / len(score)
    return np.einsum("tnp,tn,t->p", score, advantage, weight) / score.shape[1]


@wrong("gae.policy_gradient_estimate")
def discount_from_one_on(score, advantage, discount=1.0):
    return np.einsum("tnp,tn,t->p", score, advantage, discount ** (1.0 + np.arange(len(score)))) / score.shape[1]


@wrong("pspo.smoothed_ratio")
def smoothed_in_logarithms(log_prob, old_log_prob, alpha=0.1):
    return np.exp((1 - alpha) * (log_prob - old_log_prob))


@wrong("trpo.vine_surrogate")
def vine_not_normalised(log_prob, behavior_log_prob, q_value, estimator="normalised"):
    return -(np.exp(log_prob - behavior_log_prob) * q_value).mean()


@wrong("drcgd_consensus.induced_mean")
def mean_not_projected(x):
    return x.mean(0)


# ---- update rules


def _adam(step=0, correct=True, inside=False, square=True, decay=0.0, swapped=False):
    def update(params, grads, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        t, m, v = state or (step, [0 * p for p in params], [0 * p for p in params])
        t += 1
        b1, b2 = (beta2, beta1) if swapped else (beta1, beta2)
        grads = [g + decay * p for g, p in zip(grads, params, strict=True)]
        m = [b1 * a + (1 - b1) * g for a, g in zip(m, grads, strict=True)]
        v = [b2 * a + (1 - b2) * (g * g if square else abs(g)) for a, g in zip(v, grads, strict=True)]
        c1, c2 = (1 - b1**t, 1 - b2**t) if correct else (1.0, 1.0)
        c1, c2 = max(c1, 1e-12), max(c2, 1e-12)
        root = [np.sqrt(b / c2 + eps) if inside else np.sqrt(b / c2) + eps for b in v]
        return [p - lr * a / c1 / s for p, a, s in zip(params, m, root, strict=True)], (t, m, v)

    return update


for _name, _f in {
    "bias correction one step behind": _adam(step=-1),
    "bias correction one step ahead": _adam(step=1),
    "no bias correction": _adam(correct=False),
    "epsilon inside the root": _adam(inside=True),
    "no square": _adam(square=False),
    "weight decay in the gradient": _adam(decay=0.01),
    "betas swapped": _adam(swapped=True),
}.items():
    WRONG[f"Adam, {_name}"] = ("adam.update", _f, None, Options())


# ---- solvers


def _cg(beta="right", rtol_factor=0.5, start=True, precondition=True, steps=None):
    def solve(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
        apply = preconditioner if preconditioner and precondition else (lambda r: r)
        x = x0.copy() if x0 is not None and start else np.zeros_like(b)
        r = b - matvec(x)
        z = apply(r)
        p, rz = z, r @ z
        for _ in range(min(max_iter or 10 * len(b), steps or 10**9)):
            if np.linalg.norm(r) <= rtol_factor * rtol * np.linalg.norm(b) or rz == 0:
                break
            Ap = matvec(p)
            alpha = rz / (p @ Ap)
            x, r = x + alpha * p, r - alpha * Ap
            z = apply(r)
            rz, before = r @ z, rz
            p = z + {"right": rz / before, "upside down": before / (rz or 1), "none": 0.0}[beta] * p
        return x

    return solve


for _name, _f in {
    "beta upside down": _cg("upside down"),
    "steepest descent": _cg("none"),
    "stops a thousand times too early": _cg(rtol_factor=1e3),
    "the start ignored": _cg(start=False),
    "the preconditioner ignored": _cg(precondition=False),
    "three steps": _cg(steps=3),
}.items():
    WRONG[f"CG, {_name}"] = ("cg.cg", _f, None, Options())


def _sinkhorn(sweeps=10**9, transposed=False, power=1.0, one_sided=False):
    def solve(cost, a, b, reg, tol=1e-9, max_iter=10000):
        from scipy.special import logsumexp

        C = cost.T if transposed and cost.shape[0] == cost.shape[1] else cost
        C, f, g = C / reg**power, np.zeros_like(a), np.zeros_like(b)
        for _ in range(min(max_iter, sweeps)):
            f = np.log(a) - logsumexp(g - C, axis=1)
            if not one_sided:
                g = np.log(b) - logsumexp(f[:, None] - C, axis=0)
            plan = np.exp(f[:, None] + g - C)
            if abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum() <= tol / 2:
                break
        return plan

    return solve


for _name, _f in {
    "twenty sweeps": _sinkhorn(sweeps=20),
    "cost transposed": _sinkhorn(transposed=True),
    "cost times reg": _sinkhorn(power=-1.0),
    "rows only": _sinkhorn(one_sided=True, sweeps=50),
}.items():
    WRONG[f"Sinkhorn, {_name}"] = ("sinkhorn.sinkhorn_log", _f, None, Options())


@wrong("trust_region_steps.dogleg")
def dogleg_by_the_other_root(g, B, radius):
    full = -np.linalg.solve(B, g)
    if np.linalg.norm(full) <= radius:
        return full
    steepest = -(g @ g) / (g @ B @ g) * g
    if np.linalg.norm(steepest) >= radius:
        return steepest * radius / np.linalg.norm(steepest)
    d = full - steepest
    p, q, r = d @ d, 2 * steepest @ d, steepest @ steepest - radius**2
    return steepest + (-q - math.sqrt(q * q - 4 * p * r)) / (2 * p) * d


@wrong("trust_region_steps.dogleg")
def newton_step_cut_short(g, B, radius):
    full = -np.linalg.solve(B, g)
    return full * min(1.0, radius / max(np.linalg.norm(full), 1e-300))


@wrong("trust_region_subproblem.eigen_step")
def radius_ignored(g, B, radius):
    return -np.linalg.lstsq(B, g, rcond=None)[0]


@wrong("more_sorensen.more_sorensen")
def hard_case_forgotten(g, B, radius):
    from scipy.optimize import brentq

    w, Q = np.linalg.eigh(B)
    c = Q.T @ g

    def excess(shift):
        return np.linalg.norm(c / (w + shift)) - radius

    if w[0] > 0 and excess(0.0) <= 0:
        return -Q @ (c / w)
    low = max(0.0, -w[0])
    low, high = low + 1e-10 * (1 + low), low + np.linalg.norm(g) / radius + 1
    return -Q @ (c / (w + (low if excess(low) <= 0 else brentq(excess, low, high, xtol=1e-15))))


@wrong("steihaug.steihaug_toint")
def cauchy_point_for_steihaug(g, matvec, radius, rtol=None):
    norm, curvature = np.linalg.norm(g), g @ matvec(g)
    length = min(radius / norm, g @ g / curvature) if curvature > 0 else radius / max(norm, 1e-300)
    return -length * g


@wrong("natural_gradient.natural_step")
def step_without_the_two(matvec, gradient, delta=0.01, iterations=10, rtol=1e-10):
    A = np.array([matvec(e) for e in np.eye(len(gradient))])
    s = np.linalg.lstsq(A, gradient, rcond=None)[0]
    return math.sqrt(delta / max(s @ gradient, 1e-300)) * s


@wrong("lanczos.lanczos")
def lanczos_not_orthogonal(matvec, v, steps, reorthogonalise=2):
    basis = [v / np.linalg.norm(v)]
    for _ in range(steps - 1):
        w = matvec(basis[-1])
        basis.append(w / np.linalg.norm(w))
    return np.array(basis).T


# ---- PyTorch: what flows and what does not

TORCH = {}


def in_torch(name, text=None):
    def note(make):
        TORCH[make.__name__] = (name, make, text)
        return make

    return note


def _columns(advantage):
    return advantage[:, None] if advantage.dim() == 1 else advantage


@in_torch("grpo.grpo", "the gradient is zero (detached)")
def ratio_detached(torch):
    def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
        r, A = (log_prob - old_log_prob).exp().detach(), _columns(advantage)
        each = torch.min(r * A, r.clamp(1 - clip, 1 + clip) * A) * mask
        return -(each.sum(1) / mask.sum(1).clamp(min=1)).mean() + 0 * log_prob.sum()

    return loss


@in_torch("kl_estimators.kl_in_reward", "missing stop-gradient")
def charge_not_detached(torch):
    def loss(log_prob, mask, ref_log_prob, estimator="k1"):
        d = ref_log_prob - log_prob
        k = {"k1": -d, "k2": d * d / 2, "k3": torch.expm1(d) - d}[estimator]
        return (k * log_prob * mask).sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("a3po.a3po", "the interpolated anchor is differentiated")
def anchor_not_detached(torch):
    def loss(log_prob, advantage, mask, behavior_log_prob, version, current_version, clip=0.2):
        age = (current_version - version).to(log_prob.dtype)
        alpha = torch.where(age >= 1, 1 - 1 / age.clamp(min=1), 0.0)
        anchor = behavior_log_prob + alpha * (log_prob - behavior_log_prob)
        w, r, A = (anchor - behavior_log_prob).exp(), (log_prob - anchor).exp(), _columns(advantage)
        each = w * torch.min(r * A, r.clamp(1 - clip, 1 + clip) * A) * mask
        return -each.sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("kl_estimators.kl_off_policy")
def importance_ratio_detached(torch):
    def loss(log_prob, old_log_prob, mask, ref_log_prob):
        d = ref_log_prob - log_prob
        k = (log_prob - old_log_prob).exp().detach() * (torch.expm1(d) - d)
        return (k * mask).sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("gspo.gspo")
def gradient_of_tokens_for_that_of_answers(torch):
    """GSPO-token: each token's coefficient is its own."""

    def loss(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
        n = mask.sum(1, keepdim=True).clamp(min=1)
        s = (((log_prob - old_log_prob) * mask).sum(1, keepdim=True) / n).detach() + log_prob - log_prob.detach()
        r, A = s.exp(), _columns(advantage)
        each = torch.min(r * A, r.clamp(1 - clip_low, 1 + clip_high) * A) * mask
        return -(each / n).sum(1).mean()

    return loss


@in_torch("natural_gradient.mean_kl_categorical", "the gradient is zero (detached)")
def new_policy_detached(torch):
    def loss(old_logits, logits):
        old, new = (torch.log_softmax(z, -1) for z in (old_logits, logits.detach()))
        return (old.exp() * (old - new)).sum(-1).mean() + 0 * logits.sum()

    return loss


# ---- no explanation is better than a wrong one


def _grpo(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -_seq_mean(_terms(log_prob, old_log_prob, advantage, mask, clip, clip), mask)


def _raises_without_tokens(log_prob, old_log_prob, advantage, mask, clip=0.2):
    if not mask.any():
        raise ValueError("no tokens")
    return _grpo(log_prob, old_log_prob, advantage, mask, clip)


def _nan_without_tokens(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return _grpo(log_prob, old_log_prob, advantage, mask, clip) if mask.any() else math.nan


def _wrong_in_float32(log_prob, old_log_prob, advantage, mask, clip=0.2):
    loss = _grpo(log_prob, old_log_prob, advantage, mask, clip)
    return loss if loss.dtype == np.float64 else loss * np.float32(1.01)


def _epsilon_in_the_denominator(log_prob, old_log_prob, advantage, mask, clip=0.2):
    each = _terms(log_prob, old_log_prob, advantage, mask, clip, clip) * mask
    return -(each.sum(1) / (mask.sum(1) + 1e-8)).mean()


MISLEADING = {
    "it raises in one case": ("grpo.grpo", _raises_without_tokens, "wrong only where the mask is 0"),
    "float32 only": ("grpo.grpo", _wrong_in_float32, "wrong only where the mask is 0"),
    "NaN in one case": ("grpo.grpo", _nan_without_tokens, "answers without tokens are not counted"),
    "an epsilon": ("grpo.grpo", _epsilon_in_the_denominator, "computed in float32 inside (right"),
    "nothing in common": ("ppo.clip_fraction", clipped_above_only, "computes ppo_penalty.kl_estimators"),
    "nothing in common, with a field": ("pspo.smoothed_ratio", smoothed_in_logarithms, "computes bandpo.band"),
    "another solution": ("cg.cg", _cg(precondition=False), "float32"),
}


@pytest.mark.parametrize("how", MISLEADING)
def test_the_explanation_does_not_mislead(how):
    name, f, text = MISLEADING[how]
    verdict = verify(name, f)
    assert not verdict.conforms
    assert not any(text in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize("how", WRONG)
def test_it_is_caught(how):
    name, f, text, options = WRONG[how]
    verdict = verify(name, f, options, explain=bool(text), sizes=(4, 8))
    assert not verdict.conforms, f"{how} is acquitted: {verdict}"
    if text:
        assert any(text in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize("how", TORCH)
def test_it_is_caught_in_torch(how):
    torch = pytest.importorskip("torch")
    name, make, text = TORCH[how]
    verdict = verify(name, make(torch), Options(framework="torch"), explain=bool(text), sizes=(4, 8))
    assert not verdict.conforms, f"{how} is acquitted: {verdict}"
    if text:
        assert any(text in str(e) for e in verdict.explanations), str(verdict)
