"""Calls as users write them: static tools find nothing wrong, and they run (`tests/test_typing.py`)."""

import functools
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import trref
from trref.diffusion.score_models import ddim_step
from trref.krylov.cg import cg
from trref.optimizers import adam
from trref.policy.ppo import clip_fraction, clipped_surrogate, total_objective
from trref.sharpness.sam import perturbed_gradient
from trref.tokens.grpo import group_advantage, grpo

rng = np.random.default_rng(0)
old_log_prob = -rng.exponential(size=8)
log_prob = old_log_prob + 0.1 * rng.standard_normal(8)
advantage: NDArray[np.float64] = rng.standard_normal(8)

# a loss and its gradient: arrays in, arrays out
loss, gradient = clipped_surrogate(log_prob, old_log_prob, advantage, clip=0.1)
print(f"{float(loss):.3f}", gradient.shape, gradient.dtype, np.linalg.norm(gradient), loss.item())
step: NDArray[np.float64] = log_prob - 0.1 * gradient
better: bool = float(clipped_surrogate(step, old_log_prob, advantage)[0]) < float(loss)
everything = clipped_surrogate(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
print(everything[1][:3].mean(), gradient[gradient > 0].sum(), abs(gradient).max() < 1, better)
single = clipped_surrogate(log_prob.astype(np.float32), old_log_prob.astype(np.float32), advantage.astype(np.float32))

# the function without its checks, and what it says of itself
loss, gradient = clipped_surrogate.unchecked(log_prob, old_log_prob, advantage, clip=np.float64(0.1))
print(clipped_surrogate.__name__, list(clipped_surrogate.inputs))

# a number, a NamedTuple
share = 100 * clip_fraction(log_prob, old_log_prob)
value = rng.standard_normal(8)
loss, parts = total_objective(log_prob, old_log_prob, advantage, value, value + 1, np.ones(8), entropy_weight=0.0)
print(share, parts.value + parts.entropy, parts._asdict())

# token data: integers, masks of numbers or of booleans, choices
mask = np.arange(5) < rng.integers(1, 6, size=(8, 1))
group = np.repeat([0, 1], 4)
A = group_advantage(rng.random(8), group, std="population", baseline="leave_one_out", eps=1e-6)
tokens = -rng.exponential(size=(8, 5))
loss, gradient = grpo(tokens, tokens, A, mask.astype(float), clip=0.3)
loss, gradient = grpo(tokens, tokens, A[:, None] * mask, mask.astype(float))


# callables: a function, a lambda, a method, a partial
def quadratic(x: NDArray[np.float64], scale: float = 1.0) -> tuple[float, NDArray[np.float64]]:
    return scale * float(x @ x), 2 * scale * x


theta = rng.standard_normal(3)
loss, gradient = perturbed_gradient(quadratic, theta, rho=0.1, p="inf")
loss, gradient = perturbed_gradient(functools.partial(quadratic, scale=2.0), theta, perturbation=None)
matrix = np.diag([1.0, 2.0, 3.0])
solution = cg(lambda v: matrix @ v, theta, rtol=1e-8)
print(solution.x - theta, solution.residual_norms[-1] < 1e-8, solution.converged and solution.iterations)
solution = cg(matrix.dot, theta, x0=np.zeros(3), max_iter=10)

# state that is passed on
params, state = [theta, matrix], adam.init([theta, matrix])
for _ in range(3):
    params, state = adam.update(params, [2 * p for p in params], state, lr=1e-2)
print(params[0].sum(), state.m[0], state.step)

# leading and image axes; another device
images = rng.standard_normal((4, 6))
images = ddim_step(images, images, images, alpha_bar=0.5, next_alpha_bar=0.8)
assert_type(images, NDArray[Any])
with trref.use_backend("numpy"):
    trref.set_backend("numpy")
