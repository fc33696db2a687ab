"""Specifications, examples and brute force of the advantage estimators."""

from trref.backend import xp
from trref.catalog import Input
from trref.nn.heads import log_softmax
from trref.problems.mdp import TabularMDP, random_mdp

SHAPE = "T ..."
INPUTS = {
    "reward": Input(SHAPE),
    "value": Input(SHAPE),
    "next_value": Input(SHAPE),
    "terminated": Input(SHAPE, "mask"),
    "truncated": Input(SHAPE, "mask"),
}
RESIDUAL_INPUTS = {name: spec for name, spec in INPUTS.items() if name != "truncated"}
GRADIENT_INPUTS = {"score": Input("T N P"), "advantage": Input("T N")}
RESPONSE_INPUTS = {"policy": Input("S A", "prob"), "value": Input("S"), "mdp": Input("", "callable")}


def example(rng, size):
    shape = (size, 3) if rng.random() < 0.5 else (size,)
    scale = rng.choice((0.05, 0.4, 1.5))
    terminated = (rng.random(shape) < 0.15).astype(float)
    truncated = (1 - terminated) * (rng.random(shape) < 0.15)
    reward, value, final = scale * rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(shape)
    return _segment(reward, value, final, terminated, truncated)


def _segment(reward, value, final, terminated, truncated):
    """Inside an episode the next value is the next row's; where it ends it is that of its final state."""
    inside = 1 - xp.maximum(terminated, truncated)
    inside[-1] = 0
    next_value = xp.where(inside == 1, xp.concatenate([value[1:], value[:1]]), final)
    return dict(reward=reward, value=value, next_value=next_value, terminated=terminated, truncated=truncated)


def _edge(terminated, truncated):
    t = xp.arange(1.0, len(terminated) + 1)
    return _segment(1 / t, t - 2, 0.5 * t, xp.array(terminated, dtype=float), xp.array(truncated, dtype=float))


EDGES = {
    "ends on the last step": lambda: _edge([0, 0, 0, 1], [0, 0, 0, 0]),
    "cut on the last step": lambda: _edge([0, 0, 0, 0], [0, 0, 0, 1]),
    "every step ends": lambda: _edge([1, 1, 1], [0, 0, 0]),
    "every step is cut": lambda: _edge([0, 0, 0], [1, 1, 1]),
    "terminal at the time limit": lambda: _edge([0, 1, 0], [0, 1, 0]),
    "one step": lambda: _edge([0], [0]),
}


def brute_force(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """The weighted average of k-step estimates, written out: sums instead of the recursion."""
    if reward.ndim == 2:
        columns = [
            brute_force(*(x[:, i] for x in (reward, value, next_value, terminated, truncated)), gamma=gamma, lam=lam)
            for i in range(reward.shape[1])
        ]
        return xp.stack(columns, axis=1)
    T = len(reward)
    result = xp.zeros(T)
    for t in range(T):
        end = next((s for s in range(t, T) if terminated[s] or truncated[s]), T - 1)
        n = end - t + 1
        for k in range(1, n + 1):
            last = t + k - 1
            estimate = sum(gamma**l * reward[t + l] for l in range(k)) - value[t]
            bootstrap = (1 - terminated[last]) * next_value[last] if k == n else value[t + k]
            estimate += gamma**k * bootstrap
            weight = lam ** (n - 1) if k == n else (1 - lam) * lam ** (k - 1)
            result[t] += weight * estimate
    return result


def brute_force_return(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """The recursion of lambda-returns: G_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam G_{t+1}) inside an episode."""
    G = xp.zeros_like(reward)
    for t in range(len(reward) - 1, -1, -1):
        ended = xp.maximum(terminated[t], truncated[t]) if t + 1 < len(reward) else xp.ones_like(reward[t])
        later = G[t + 1] if t + 1 < len(reward) else 0
        bootstrap = (1 - terminated[t]) * next_value[t]
        G[t] = reward[t] + gamma * (ended * bootstrap + (1 - ended) * ((1 - lam) * next_value[t] + lam * later))
    return G


def residual_inputs(inputs):
    return {name: inputs[name] for name in RESIDUAL_INPUTS}


def residuals_by_rows(reward, value, next_value, terminated, *, gamma=0.99):
    rows = zip(reward, value, next_value, terminated, strict=True)
    return xp.stack([r - v + xp.where(d == 1, 0, gamma * n) for r, v, n, d in rows])


def gradient_example(rng, size):
    score = rng.standard_normal((size, 3, 4))
    return {"score": score, "advantage": rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 3))}


def gradient_by_loops(score, advantage, *, discount=1.0):
    T, N = advantage.shape
    return sum(discount**t * advantage[t, n] * score[t, n] for t in range(T) for n in range(N)) / N


def response_example(rng, size):
    mdp = random_mdp(rng, states=size, actions=3, gamma=rng.choice((0.5, 0.9)), scale=rng.choice((0.05, 1.5)))
    policy = xp.exp(log_softmax(rng.choice((0.3, 3.0)) * rng.standard_normal((size, 3))))
    return {"policy": policy, "value": rng.choice((0.0, 1.0)) * rng.standard_normal(size), "mdp": mdp}


def _a_chain(policy, value):
    """Three states in a row; the first action goes on, the second stays; only leaving the second one earns."""
    transition = xp.zeros((3, 2, 3))
    transition[[0, 1, 2], 0, [1, 2, 2]] = transition[[0, 1, 2], 1, [0, 1, 2]] = 1
    reward = xp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    mdp = TabularMDP(transition, reward, xp.array([1.0, 0.0, 0.0]), 0.5)
    return {"policy": xp.array(policy, dtype=float), "value": xp.array(value, dtype=float), "mdp": mdp}


RESPONSE_EDGES = {
    "certain actions": lambda: _a_chain([[1, 0], [1, 0], [0, 1]], [0, 0, 0]),
    "the true values": lambda: _a_chain([[1, 0], [1, 0], [1, 0]], [1, 2, 0]),
}


def response_by_walking(policy, value, mdp, *, steps=10):
    """Brute force: two distributions over state and action, with and without the first action given, step by step."""
    S, A = policy.shape
    shaped = mdp.reward + mdp.gamma * mdp.transition @ value - value[:, None]
    result = xp.zeros((steps, S, A))
    for s in range(S):
        for a in range(A):
            given, free = xp.zeros((S, A)), xp.zeros((S, A))
            given[s, a], free[s] = 1.0, policy[s]
            for step in range(steps):
                result[step, s, a] = ((given - free) * shaped).sum()
                given, free = (xp.einsum("sa,sat->t", p, mdp.transition)[:, None] * policy for p in (given, free))
    return result


PROBE = {"gamma": 0.9, "lam": 0.6}
