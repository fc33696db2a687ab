"""Right implementations, written as engineers write them: `verify` must accuse none of them.

Formulas from a paper's algorithm box, loops, vectorised tricks, other libraries. All record types but those that draw.
"""

import functools
import itertools
import math

import numpy as np
import pytest

from trref.conformance import Options, verify

RIGHT = {}


def right(name, options=None):
    """Note a function under the name of the catalogued one that it computes."""

    def note(f):
        assert f.__name__ not in RIGHT
        RIGHT[f.__name__] = (name, f, options or Options())
        return f

    return note


# ---- token objectives


def _surrogate(d, A, low, high):
    r = np.exp(d)
    return np.minimum(r * A, np.clip(r, 1 - low, 1 + high) * A)


def _per_token(advantage, mask):
    return np.broadcast_to(advantage[:, None], mask.shape) if advantage.ndim == 1 else advantage


@right("grpo.grpo")
def grpo_by_loops(log_prob, old_log_prob, advantage, mask, clip=0.2):
    total = 0.0
    for i in range(len(mask)):
        tokens = [t for t in range(mask.shape[1]) if mask[i, t]]
        for t in tokens:
            a = advantage[i] if advantage.ndim == 1 else advantage[i, t]
            r = math.exp(log_prob[i, t] - old_log_prob[i, t])
            total -= min(r * a, min(max(r, 1 - clip), 1 + clip) * a) / len(tokens)
    return total / len(mask)


@right("grpo.grpo")
def grpo_masked_mean(log_prob, old_log_prob, advantage, mask, clip=0.2):
    loss = -_surrogate(log_prob - old_log_prob, _per_token(advantage, mask), clip, clip)
    return ((loss * mask).sum(-1) / mask.sum(-1).clip(min=1.0)).mean()


@right("grpo.grpo")
def grpo_with_a_gradient_by_cases(log_prob, old_log_prob, advantage, mask, clip=0.2):
    A, r = _per_token(advantage, mask), np.exp(log_prob - old_log_prob)
    w = mask / np.maximum(mask.sum(1, keepdims=True), 1) / len(mask)
    cut = ((A > 0) & (r > 1 + clip)) | ((A < 0) & (r < 1 - clip))
    limit = np.where(A > 0, np.minimum(r, 1 + clip), np.maximum(r, 1 - clip))
    return -np.einsum("ij,ij,ij->", w, limit, A), np.where(cut, 0.0, -w * r * A)


@right("dapo.dapo_over_batch")
def dapo_of_selected_tokens(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    on = mask.astype(bool)
    if not on.any():
        return 0.0
    d, A = (log_prob - old_log_prob)[on], _per_token(advantage, mask)[on]
    return -_surrogate(d, A, clip_low, clip_high).mean()


@right("dapo.dapo_over_batch")
def dapo_clipped_in_log_space(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    d, A = log_prob - old_log_prob, _per_token(advantage, mask)
    bounded = np.where(A > 0, np.minimum(d, np.log1p(clip_high)), np.maximum(d, np.log1p(-clip_low)))
    return -(mask * A * np.exp(bounded)).sum() / max(mask.sum(), 1)


@right("dapo.dapo")
def dapo_prompt_by_prompt(log_prob, old_log_prob, advantage, mask, group, clip_low=0.2, clip_high=0.28):
    term = mask * _surrogate(log_prob - old_log_prob, _per_token(advantage, mask), clip_low, clip_high)
    prompts = [group == g for g in set(group.tolist())]
    return -np.mean([term[rows].sum() / max(mask[rows].sum(), 1) for rows in prompts])


@right("dr_grpo.dr_grpo")
def dr_grpo_as_a_sum(log_prob, old_log_prob, advantage, mask, max_length, clip=0.2):
    term = _surrogate(log_prob - old_log_prob, _per_token(advantage, mask), clip, clip)
    return -np.sum(term, where=mask > 0) / (max_length * log_prob.shape[0])


@right("gspo.gspo")
def gspo_by_geometric_means(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    values = []
    for new, old, m, a in zip(log_prob, old_log_prob, mask, _per_token(advantage, mask), strict=True):
        on = m == 1
        if not on.any():
            values.append(0.0)
            continue
        s = np.exp(np.average(new[on]) - np.average(old[on]))
        values.append(np.mean(np.minimum(s * a[on], np.clip(s, 1 - clip_low, 1 + clip_high) * a[on])))
    return -sum(values) / len(values)


@right("dual_clip.dual_clip")
def dual_clip_from_the_box(log_prob, old_log_prob, advantage, mask, clip=0.2, bound=3.0):
    A = _per_token(advantage, mask)
    loss = -_surrogate(log_prob - old_log_prob, A, clip, clip)
    loss = np.where(A < 0, np.minimum(-bound * A, loss), loss)
    return np.mean((loss * mask).sum(1) / np.maximum(mask.sum(1), 1))


@right("kl_estimators.kl_in_loss")
def kl_of_schulman(log_prob, mask, ref_log_prob, estimator="k3"):
    log_r = ref_log_prob - log_prob
    k = {"k1": -log_r, "k2": log_r**2 / 2, "k3": np.exp(log_r) - 1 - log_r}[estimator]
    return (k * mask).sum() / max(mask.sum(), 1)


@right("kl_estimators.grpo_with_kl")
def grpo_penalised(log_prob, old_log_prob, advantage, mask, ref_log_prob, clip=0.2, beta=0.04, estimator="k3"):
    log_r = ref_log_prob - log_prob
    k = {"k1": -log_r, "k2": log_r**2 / 2, "k3": np.expm1(log_r) - log_r}[estimator]
    loss = -_surrogate(log_prob - old_log_prob, _per_token(advantage, mask), clip, clip) + beta * k
    return np.mean([(row @ m) / max(m.sum(), 1) for row, m in zip(loss, mask, strict=True)])


@right("drpo.spo")
def spo_with_the_square_completed(log_prob, old_log_prob, advantage, mask, max_length, radius=0.2):
    A, r = _per_token(advantage, mask), np.exp(log_prob - old_log_prob)
    best = 1 + radius * np.sign(A)
    earned = A + abs(A) * radius / 2 - abs(A) / (2 * radius) * (r - best) ** 2
    return -(mask * earned).sum() / (len(mask) * max_length)


# ---- other objectives


@right("ppo.total_objective")
def ppo_total(
    log_prob, old_log_prob, advantage, value, value_target, entropy, clip=0.2, value_weight=1.0, entropy_weight=0.01
):
    pg_loss = -_surrogate(log_prob - old_log_prob, advantage, clip, clip).mean()
    return pg_loss + value_weight * np.square(value - value_target).mean() - entropy_weight * entropy.mean()


@right("ppo_penalty.kl_penalty_objective")
def penalised_by_distributions(logits, old_logits, actions, advantage, kl_weight=1.0):
    from scipy.special import log_softmax

    new, old, rows = log_softmax(logits, 1), log_softmax(old_logits, 1), np.arange(len(actions))
    ratio = np.exp(new[rows, actions] - old[rows, actions])
    return -np.mean(ratio * advantage - kl_weight * (np.exp(old) * (old - new)).sum(1))


@right("natural_gradient.mean_kl_categorical")
def kl_by_cross_entropy(old_logits, logits):
    from scipy.special import logsumexp

    p = np.exp(old_logits - logsumexp(old_logits, axis=1, keepdims=True))
    difference = (p * (old_logits - logits)).sum(1) + logsumexp(logits, axis=1) - logsumexp(old_logits, axis=1)
    return difference.mean()


@right("natural_gradient.mean_kl_diag_gaussian")
def kl_of_gaussians_by_variances(old_mean, old_log_std, mean, log_std):
    v0, v1 = np.exp(2 * old_log_std), np.exp(2 * log_std)
    each = np.log(v1 / v0) + (v0 + (mean - old_mean) ** 2) / v1 - 1
    return 0.5 * each.sum(1).mean()


@right("sam.perturbed_gradient")
def sam_in_two_passes(loss_and_grad, theta, rho=0.05):
    _, first = loss_and_grad(theta)
    norm = math.sqrt(float(first @ first))
    return loss_and_grad(theta + rho / (norm or 1.0) * first)


@right("entropic_dual.dual_value")
def dual_by_broadcasting(f, g, cost, a, b, reg):
    P = np.exp((np.add.outer(f, g) - cost) / reg) / math.e
    return reg * P.sum() - f @ a - g @ b


@right("tre.region_bonus")
def bonus_row_by_row(logits, mask, rule="top_k", K=2, P=0.99):
    total, V = 0.0, logits.shape[-1]
    for row, on in zip(logits.reshape(-1, V), mask.ravel(), strict=True):
        order = np.argsort(-row, kind="stable")
        p = np.exp(row - row.max())[order] / np.exp(row - row.max()).sum()
        keep = {"top_k": np.arange(V) < K, "top_p": np.cumsum(p) - p < P, "all": np.ones(V, bool)}[rule]
        q = p[keep] / p[keep].sum()
        if on and len(q) > 1:
            total += (q * np.log(q, where=q > 0, out=np.zeros_like(q))).sum() * math.log(V) / math.log(len(q))
    return total / max(mask.sum(), 1)


# ---- estimators


@right("gae.gae")
def gae_by_filters(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    """Spinning Up's discounted sum, episode by episode."""
    from scipy.signal import lfilter

    delta = reward + gamma * next_value * (1 - terminated) - value
    columns, out = delta.reshape(len(delta), -1), np.empty((len(delta), delta[0].size))
    ended = np.logical_or(terminated, truncated).reshape(columns.shape)
    for j in range(columns.shape[1]):
        starts = [0, *(np.flatnonzero(ended[:, j]) + 1).tolist(), len(delta)]
        for s, e in itertools.pairwise(starts):
            if e > s:
                out[s:e, j] = lfilter([1], [1, -gamma * lam], columns[s:e, j][::-1])[::-1]
    return out.reshape(delta.shape)


@right("gae.lambda_return")
def lambda_return_from_advantages(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    advantage, last = np.zeros_like(reward), np.zeros_like(reward[0])
    for t in range(len(reward) - 1, -1, -1):
        nonterminal, running = 1.0 - terminated[t], (1.0 - terminated[t]) * (1.0 - truncated[t])
        delta = reward[t] + gamma * next_value[t] * nonterminal - value[t]
        advantage[t] = last = delta + gamma * lam * running * last
    return advantage + value


@right("grpo.group_advantage", Options(constants={"eps": 1e-4}))
def advantage_by_bincount(reward, group, eps=1e-4):
    _, g, n = np.unique(group, return_inverse=True, return_counts=True)
    mean = np.bincount(g, reward) / n
    square = np.bincount(g, (reward - mean[g]) ** 2)
    return (reward - mean[g]) / (np.sqrt(square / np.maximum(n - 1, 1))[g] + eps)


@right("grpo.group_advantage", Options(constants={"std": "none", "baseline": "leave_one_out"}))
def rloo_by_sums(reward, group, std=None, baseline=None):
    out = np.zeros_like(reward)
    for i, g in enumerate(group):
        others = np.delete(reward, i)[np.delete(group, i) == g]
        out[i] = reward[i] - others.mean() if len(others) else 0.0
    return out


@right("dapo.overlong_penalty")
def overlong_by_cases(length, longest, cache):
    soft = longest - cache
    return np.piecewise(length, [length <= soft, length > longest], [0.0, -1.0, lambda n: (soft - n) / cache])


@right("dapo.dynamic_sampling")
def keep_what_varies(reward, group):
    return np.array([float(np.ptp(reward[group == g]) > 0) for g in group])


@right("ppo_penalty.adapt_kl_weight")
def beta_of_the_paper(kl_weight, kl, target=0.01):
    if kl < target / 1.5:
        kl_weight = kl_weight / 2
    elif kl > target * 1.5:
        kl_weight = kl_weight * 2
    return np.clip(kl_weight, 1e-10, 1e10)


@right("drcgd_consensus.metropolis_weights")
def metropolis_by_loops(adjacency):
    n, degree = len(adjacency), adjacency.sum(1)
    W = np.zeros((n, n), adjacency.dtype)
    for i, j in itertools.permutations(range(n), 2):
        if adjacency[i, j]:
            W[i, j] = 1 / (1 + max(degree[i], degree[j]))
    for i in range(n):
        W[i, i] = 1 - W[i].sum()
    return W


# ---- transforms


def _stacked(f):
    @functools.wraps(f)
    def many(x, z):
        return f(x, z) if x.ndim == 2 else np.stack([many(a, b) for a, b in zip(x, z, strict=True)])

    return many


@right("stiefel.retract_qr")
def retraction_by_numpy_qr(x, z):
    q, r = np.linalg.qr(x + z)
    return q * np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1)[..., None, :]


@right("stiefel_retraction.retract_polar")
@_stacked
def polar_by_scipy(x, z):
    from scipy.linalg import polar

    return polar(x + z)[0]


@right("stiefel_retraction.retract_cayley")
@_stacked
def cayley_with_an_inverse(x, z):
    identity = np.eye(len(x))
    half = identity - x @ x.T / 2
    W = half @ z @ x.T - x @ z.T @ half
    return np.linalg.inv(identity - W / 2) @ (identity + W / 2) @ x


@right("stiefel_gradient.riemannian_gradient")
def gradient_in_either_metric(x, gradient, metric="euclidean"):
    xt, gt = np.swapaxes(x, -1, -2), np.swapaxes(gradient, -1, -2)
    if metric == "canonical":
        return gradient - x @ gt @ x
    return gradient - x @ (xt @ gradient + gt @ x) / 2


@right("sinkhorn.round_to_feasible")
def rounding_from_the_box(plan, a, b):
    with np.errstate(divide="ignore"):
        plan = np.diag(np.minimum(a / plan.sum(1), 1)) @ plan
        plan = plan @ np.diag(np.minimum(b / plan.sum(0), 1))
    missing_a, missing_b = a - plan.sum(1), b - plan.sum(0)
    missing = abs(missing_a).sum()
    return plan + np.outer(missing_a, missing_b) / missing if missing > 1e-15 else plan


@right("score_models.ddim_step")
def ddim_by_the_predicted_sample(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    predicted = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    sigma = eta * math.sqrt((1 - next_alpha_bar) / (1 - alpha_bar)) * math.sqrt(1 - alpha_bar / next_alpha_bar)
    direction = math.sqrt(max(1 - next_alpha_bar - sigma**2, 0)) * noise
    return math.sqrt(next_alpha_bar) * predicted + direction + sigma * z


@right("troll_projection.project_kl")
def projection_by_bisection(logits, old_logits, radius=0.05):
    from scipy.special import log_softmax

    p, q = log_softmax(logits, -1), log_softmax(old_logits, -1)
    low, high = np.zeros((*p.shape[:-1], 1)), np.ones((*p.shape[:-1], 1))

    def divergence(a):
        return (np.exp(a) * (a - q)).sum(-1, keepdims=True)

    for _ in range(60):
        middle = (low + high) / 2
        outside = divergence(log_softmax(middle * p + (1 - middle) * q, -1)) > radius
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return np.where(divergence(p) <= radius, p, log_softmax(low * p + (1 - low) * q, -1))


# ---- update rules


@right("adam.update")
def adam_from_the_box(params, grads, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    state = state or {"t": 0, "m": [np.zeros_like(p) for p in params], "v": [np.zeros_like(p) for p in params]}
    t, m, v, new = state["t"] + 1, [], [], []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        m.append(beta1 * state["m"][i] + (1 - beta1) * g)
        v.append(beta2 * state["v"][i] + (1 - beta2) * np.square(g))
        m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
        new.append(p - lr * m_hat / (np.sqrt(v_hat) + eps))
    return new, {"t": t, "m": m, "v": v}


# ---- solvers


@right("cg.cg")
def cg_of_hestenes_and_stiefel(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    apply = preconditioner or (lambda r: r)
    x = np.zeros_like(b) if x0 is None else x0.copy()
    r = b - matvec(x)
    z = apply(r)
    p, rz = z, r @ z
    for _ in range(max_iter or 10 * len(b)):
        if np.linalg.norm(r) <= 0.5 * rtol * np.linalg.norm(b):
            break
        Ap = matvec(p)
        alpha = rz / (p @ Ap)
        x, r = x + alpha * p, r - alpha * Ap
        z = apply(r)
        rz, before = r @ z, rz
        p = z + rz / before * p
    return x


@right("gmres.gmres")
def gmres_by_least_squares(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    """Arnoldi with a dense least-squares problem at the end; preconditioned on the right."""
    apply = preconditioner or (lambda r: r)
    start = np.zeros_like(b) if x0 is None else x0
    r = b - matvec(start)
    norm = np.linalg.norm(r)
    if norm <= rtol * np.linalg.norm(b):
        return start.copy()
    V, H = [r / norm], np.zeros((len(b) + 1, len(b)))
    for k in range(min(max_iter or len(b), len(b))):
        w = matvec(apply(V[k]))
        for _ in range(2):
            for i, v in enumerate(V):
                h = v @ w
                H[i, k] += h
                w = w - h * v
        H[k + 1, k] = np.linalg.norm(w)
        e = np.zeros(k + 2)
        e[0] = norm
        y = np.linalg.lstsq(H[: k + 2, : k + 1], e, rcond=None)[0]
        residual = np.linalg.norm(H[: k + 2, : k + 1] @ y - e)
        if residual <= 0.5 * rtol * np.linalg.norm(b) or H[k + 1, k] <= 1e-14 * abs(H[: k + 1, k]).max():
            break
        V.append(w / H[k + 1, k])
    return start + apply(sum(c * v for c, v in zip(y, V, strict=False)))


@right("trust_region_steps.dogleg")
def dogleg_by_the_quadratic_formula(g, B, radius):
    full = -np.linalg.solve(B, g)
    if np.linalg.norm(full) <= radius:
        return full
    steepest = -(g @ g) / (g @ B @ g) * g
    if np.linalg.norm(steepest) >= radius:
        return steepest * radius / np.linalg.norm(steepest)
    d = full - steepest
    p, q, r = d @ d, 2 * steepest @ d, steepest @ steepest - radius**2
    return steepest + (-q + math.sqrt(q * q - 4 * p * r)) / (2 * p) * d


@right("sinkhorn.sinkhorn_log")
def sinkhorn_of_the_first_lines(cost, a, b, reg, tol=1e-9, max_iter=10000):
    from scipy.special import logsumexp

    f, g = np.zeros_like(a), np.zeros_like(b)
    for _ in range(max_iter):
        f = reg * (np.log(a) - logsumexp((g - cost) / reg, axis=1))
        g = reg * (np.log(b) - logsumexp((f[:, None] - cost) / reg, axis=0))
        plan = np.exp((f[:, None] + g - cost) / reg)
        if abs(plan.sum(1) - a).sum() <= tol / 2:
            break
    return plan


@right("sinkhorn.sinkhorn_scaling")
def scaling_from_ones(cost, a, b, reg, tol=1e-9, max_iter=10000):
    if np.ptp(cost) / reg > 500:  # the kernel would underflow
        return sinkhorn_of_the_first_lines(cost, a, b, reg, tol, max_iter)
    K, v = np.exp(-(cost - cost.min()) / reg), np.ones_like(b)
    for _ in range(max_iter):
        u = a / (K @ v)
        v = b / (K.T @ u)
        plan = u[:, None] * K * v
        if abs(plan.sum(1) - a).sum() <= tol / 100:
            break
    return plan


@right("sinkhorn.sinkhorn_log")
def sinkhorn_by_pot(cost, a, b, reg, tol=1e-9, max_iter=10000):
    ot = pytest.importorskip("ot")
    threshold = 0.0 if max_iter <= 5 else tol / 10
    # POT begins with the columns
    plan = ot.sinkhorn(b, a, cost.T, reg, "sinkhorn_log", numItermax=max_iter, stopThr=threshold, warn=False)
    return plan.T


@right("steihaug.steihaug_toint")
def steihaug_of_nocedal_and_wright(g, matvec, radius, rtol=None):
    norm = np.linalg.norm(g)
    tolerance = (rtol if rtol is not None else min(0.5, math.sqrt(norm))) * norm
    z, r, d = np.zeros_like(g), g, -g

    def ends():
        a, b, c = d @ d, 2 * z @ d, z @ z - radius**2
        root = math.sqrt(b * b - 4 * a * c)
        return [z + (-b + sign * root) / (2 * a) * d for sign in (1, -1)]

    def model(p):
        return g @ p + p @ matvec(p) / 2

    while np.linalg.norm(r) > tolerance:
        Bd = matvec(d)
        curvature = d @ Bd
        if curvature <= 0:
            return min(ends(), key=model)
        alpha = r @ r / curvature
        if np.linalg.norm(z + alpha * d) >= radius:
            return ends()[0]
        z, after = z + alpha * d, r + alpha * Bd
        d, r = -after + after @ after / (r @ r) * d, after
    return z


@right("lanczos.lanczos")
def lanczos_with_full_orthogonalisation(matvec, v, steps):
    basis = [v / np.linalg.norm(v)]
    for _ in range(steps - 1):
        w = matvec(basis[-1])
        scale = np.linalg.norm(w)
        V = np.array(basis).T
        for _ in range(3):
            w = w - V @ (V.T @ w)
        if np.linalg.norm(w) <= 1e-12 * scale:
            break
        basis.append(w / np.linalg.norm(w))
    return np.array(basis).T


@right("trust_region_subproblem.eigen_step")
def subproblem_by_bisection(g, B, radius):
    """In units in which the radius and the largest coefficient are 1."""
    unit = max(float(abs(B).max()), float(np.linalg.norm(g)) / radius, 1e-300)
    return radius * _subproblem_by_bisection(g / radius / unit, B / unit, 1.0)


def _subproblem_by_bisection(g, B, radius):
    from scipy.optimize import brentq

    w, Q = np.linalg.eigh(B)
    c = Q.T @ g
    c[abs(c) < 1e-14 * np.linalg.norm(g)] = 0

    def step(lam):
        d = w + lam
        return np.divide(-c, d, out=np.zeros_like(c), where=c != 0)

    low = max(0.0, -w[0])
    at_pole = bool((c[w <= w[0] + 1e-14 * abs(w).max()] != 0).any())
    if w[0] > 0 and np.linalg.norm(step(0.0)) <= radius:
        return Q @ step(0.0)
    edge = low if not at_pole else low + 1e-14 * (1 + low)
    if not at_pole:
        p = np.where(w + low > 1e-14 * abs(w).max(), step(low + 1e-300), 0)
        if np.linalg.norm(p) <= radius:
            p = p + 0.0
            if low > 0 or w[0] <= 0:
                p[0] += math.sqrt(max(radius**2 - p @ p, 0)) if low > 0 else 0
            return Q @ p
    high = low + np.linalg.norm(g) / radius + 1
    lam = brentq(lambda s: 1 / radius - 1 / np.linalg.norm(step(s)), edge, high, xtol=1e-15, rtol=1e-15)
    return Q @ step(lam)


# ---- PyTorch


TORCH = {}


def in_torch(name, **options):
    """Note a function that gets the module torch first, and returns the implementation."""

    def note(make):
        TORCH[make.__name__] = (name, make, Options(framework="torch", **options))
        return make

    return note


@in_torch("grpo.grpo")
def grpo_of_a_trainer(torch):
    def masked_mean(values, mask, axis=None):
        return (values * mask).sum(axis) / mask.sum(axis).clamp(min=1)

    def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
        ratio = torch.exp(log_prob - old_log_prob.detach())
        A = advantage.unsqueeze(-1) if advantage.dim() == 1 else advantage
        losses = torch.maximum(-A * ratio, -A * ratio.clamp(1 - clip, 1 + clip))
        return masked_mean(losses, mask, -1).mean()

    return loss


@in_torch("dapo.dapo_over_batch")
def dapo_of_packed_tokens(torch):
    def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
        on = mask.bool()
        A = (advantage[:, None].expand_as(mask) if advantage.dim() == 1 else advantage)[on]
        ratio = (log_prob[on] - old_log_prob[on]).exp()
        terms = torch.min(ratio * A, torch.clamp(ratio, 1 - clip_low, 1 + clip_high) * A)
        return -terms.sum() / on.sum().clamp(min=1)

    return loss


@in_torch("gspo.gspo")
def gspo_with_a_broadcast_ratio(torch):
    def loss(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
        n = mask.sum(-1, keepdim=True).clamp(min=1)
        s = torch.exp(((log_prob - old_log_prob) * mask).sum(-1, keepdim=True) / n).expand_as(mask)
        A = advantage[:, None] if advantage.dim() == 1 else advantage
        terms = torch.min(s * A, s.clamp(1 - clip_low, 1 + clip_high) * A)
        return -((terms * mask).sum(-1, keepdim=True) / n).mean()

    return loss


@in_torch("kl_estimators.kl_in_reward")
def charge_with_a_detached_estimate(torch):
    def loss(log_prob, mask, ref_log_prob, estimator="k1"):
        d = (ref_log_prob - log_prob).detach()
        k = {"k1": lambda: -d, "k2": lambda: d.square() / 2, "k3": lambda: d.exp() - d - 1}[estimator]()
        return (k * log_prob * mask).sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("kl_estimators.kl_off_policy")
def corrected_kl(torch):
    def loss(log_prob, old_log_prob, mask, ref_log_prob):
        d = ref_log_prob - log_prob
        k3 = torch.exp(d) - d - 1
        return (torch.exp(log_prob - old_log_prob) * k3)[mask.bool()].sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("a3po.decoupled")
def decoupled_with_a_detached_weight(torch):
    def loss(log_prob, old_log_prob, advantage, mask, behavior_log_prob, clip=0.2, weight_cap=None, over_cap="mask"):
        A = advantage[:, None] if advantage.dim() == 1 else advantage
        weight = (old_log_prob - behavior_log_prob).exp().detach()
        if weight_cap is not None and over_cap == "clamp":
            weight = weight.clamp(max=weight_cap)
        elif weight_cap is not None:
            weight = torch.where(weight > weight_cap, 0.0, weight)
        ratio = (log_prob - old_log_prob).exp()
        terms = torch.min(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A) * weight * mask
        return -terms.sum() / mask.sum().clamp(min=1)

    return loss


@in_torch("natural_gradient.mean_kl_categorical")
def kl_div_of_torch(torch):
    def loss(old_logits, logits):
        old, new = (torch.log_softmax(z, -1) for z in (old_logits, logits))
        return torch.nn.functional.kl_div(new, old, log_target=True, reduction="batchmean")

    return loss


@in_torch("stiefel.project")
def tangent_projection(torch):
    return lambda x, z: z - x @ (x.mT @ z + z.mT @ x) / 2


@in_torch("stiefel.retract_qr")
def retraction_by_torch_qr(torch):
    def retract(x, z):
        q, r = torch.linalg.qr(x + z)
        return q * torch.where(torch.diagonal(r, dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype).unsqueeze(-2)

    return retract


@in_torch("score_models.ddim_step")
def ddim_of_diffusers(torch):
    def step(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
        predicted = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
        variance = (1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)
        sigma = eta * variance**0.5
        return next_alpha_bar**0.5 * predicted + max(1 - next_alpha_bar - sigma**2, 0) ** 0.5 * noise + sigma * z

    return step


@in_torch("adam.update", names={"beta1": "betas[0]", "beta2": "betas[1]"})
def a_torch_optimizer(torch):
    class Adam(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                (b1, b2), lr, eps = group["betas"], group["lr"], group["eps"]
                for p in group["params"]:
                    state = self.state[p]
                    if not state:
                        state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                    state["step"] += 1
                    state["m"].lerp_(p.grad, 1 - b1)
                    state["v"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                    denominator = (state["v"].sqrt() / math.sqrt(1 - b2 ** state["step"])).add_(eps)
                    p.addcdiv_(state["m"], denominator, value=-lr / (1 - b1 ** state["step"]))

    return Adam


ASSUMED = {
    # asked for a residual of 0 at a condition of 1e10, the textbook's loop goes on into rounding
    "steihaug_of_nocedal_and_wright": ("solvable",),
}


# What `verify` accuses although it is right, and why.
@pytest.mark.parametrize("how", RIGHT)
def test_no_false_alarm(how):
    name, f, options = RIGHT[how]
    seeds = (0,) if name.startswith("sinkhorn") else (0, 1)
    verdict = verify(name, f, options, explain=False, seeds=seeds, assume=ASSUMED.get(how, ()))
    assert verdict.conforms, str(verdict)


@pytest.mark.parametrize("how", TORCH)
def test_no_false_alarm_in_torch(how):
    torch = pytest.importorskip("torch")
    name, make, options = TORCH[how]
    verdict = verify(name, make(torch), options, explain=False)
    assert verdict.conforms, str(verdict)
