"""
Many variables, and a few bad clusters
======================================

Of many variables a few matter, some of them not linearly, and some of the data are wrong. Three tools in a row: which
variables to look at, how to fit a sparse model fast, and how not to be pulled by what is far off.
"""

# %%
# Screening
# ---------
# 300 samples of 100 variables, and an outcome :math:`x_1^2 + \sin 3x_2 + x_3` with noise. *Predict before you run*:
# which of the three does a correlation miss?

import warnings

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.problems.samples import LinearSamples
from trref.statistics.accelerated_gradient import accelerated_gradient
from trref.statistics.mutual_information import kde_joint, mutual_information
from trref.statistics.proximal_cg import proximal_cg
from trref.statistics.t_mixed_model import robustness_weights, t_log_likelihood
from trref.validate import ConvergenceWarning

plt = use_style()
SEEDS = range(4)


def ranks(scores):
    """Place of the first three variables, 1 for the largest score."""
    return 1 + np.argsort(np.argsort(-scores))[:3]


def screened(seed):
    """Places by the size of the correlation, and by mutual information."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 100))
    y = X[:, 0] ** 2 + np.sin(3 * X[:, 1]) + X[:, 2] + 0.5 * rng.standard_normal(300)
    linear = np.array([abs(np.corrcoef(x, y)[0, 1]) for x in X.T])
    return ranks(linear), ranks(np.array([mutual_information(kde_joint(x, y, grid=20)) for x in X.T]))


by_correlation, by_information = (np.array(kind) for kind in zip(*map(screened, SEEDS), strict=True))
print("places of square, sine and line by correlation\n", by_correlation)
print("and by mutual information\n", by_information)

# %%
# Fitting
# -------
# A regression with 400 correlated variables, 200 samples and 10 signals, with MCP. How far above the best value found
# is each method after as many *gradients*? A step of conjugate gradients takes two or more; they are counted.


class Counted:
    """A loss that counts its calls, and keeps the count at each."""

    def __init__(self, loss):
        self.loss, self.calls = loss, 0

    def __call__(self, theta):
        self.calls += 1
        return self.loss(theta)


def regression(seed, n=200, p=400):
    """Columns whose neighbours have the correlation 0.7."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    for j in range(1, p):
        X[:, j] = 0.7 * X[:, j - 1] + np.sqrt(1 - 0.7**2) * X[:, j]
    beta = np.zeros(p)
    beta[rng.choice(p, 10, replace=False)] = rng.choice((-1, 1), 10) * rng.uniform(1, 2, 10)
    return LinearSamples(X, X @ beta + 0.5 * rng.standard_normal(n))


def fitted(loss, method, steps, **how):
    """Values after each step, and gradients a step."""
    counted = Counted(loss)
    smoothness = np.linalg.eigvalsh(loss.X @ loss.X.T / len(loss.X))[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = method(
            counted, np.zeros(400), smoothness=smoothness, penalty_weight=0.2, max_iter=steps, gtol=1e-8, **how
        )
    return np.array(found.values), counted.calls / found.iterations


METHODS = {
    "proximal gradient": (accelerated_gradient, {"acceleration": "none"}),
    "accelerated": (accelerated_gradient, {"acceleration": "plain"}),
    "with restarts": (accelerated_gradient, {"acceleration": "restarted"}),
    "conjugate": (proximal_cg, {}),
}
BUDGET = 100
figure, axes = plt.subplots(1, 2)
gaps = {name: [] for name in METHODS}
for seed in SEEDS:
    loss = regression(seed)
    runs = {name: fitted(loss, method, 200, **how) for name, (method, how) in METHODS.items()}
    best = min(values.min() for values, _ in runs.values())
    for k, (name, (values, cost)) in enumerate(runs.items()):
        gap = np.maximum(values - best, 1e-12)
        gaps[name].append(gap[min(int(BUDGET / cost), len(gap) - 1)])
        if seed == 0:
            axes[0].semilogy(cost * np.arange(len(gap)), gap, color=COLOURS[k], label=name)
axes[0].set(xlabel="gradients", ylabel="above the best value", xlim=(0, 200))
axes[0].legend()
for name, values in gaps.items():
    print(f"{name:18} after {BUDGET} gradients:", " ".join(f"{v:.1e}" for v in values))

# %%
# Robustness
# ----------
# 40 clusters of 5 observations with an intercept of their own each, 10 variables of which three matter; in two
# clusters, 5 % of them, all observations are shifted by 15 at random. The same penalised fit, under the normal law and
# under a t distribution.

K, N, P = 40, 5, 10
BETA = np.array([2.0, -1.5, 1.0] + [0.0] * 7)


def clusters(seed, shifted):
    """Data, of which the first clusters are wrong."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((K, N, P))
    y = X @ BETA + 0.7 * rng.standard_normal((K, 1)) + 0.5 * rng.standard_normal((K, N))
    y[:shifted] += 15 * rng.standard_normal((shifted, N))
    return X, np.ones((K, N, 1)), y


def mixed(theta):
    """Parts of a flat vector: effects, logarithm of the variance, factor."""
    return theta[:P], np.asarray(theta[P]), theta[P + 1 :].reshape(1, 1)


def fit(data, dof):
    """The sparse estimate by proximal conjugate gradients, from 0."""

    def loss(theta):
        value, gradient = t_log_likelihood(*mixed(theta), *data, dof=dof)
        flat = np.concatenate([gradient.beta, [gradient.log_variance], gradient.factor[0]])
        return -value / (K * N), -flat / (K * N)

    bears = np.array([1.0] * P + [0.0, 0.0])
    return proximal_cg(loss, np.zeros(P + 2), bears, smoothness=10.0, penalty_weight=0.05, gtol=1e-4, max_iter=1000).x


errors = {}
for shifted in (0, 2):
    for dof in (None, 4.0):
        estimates = [fit(clusters(seed, shifted), dof) for seed in SEEDS]
        errors[shifted, dof] = np.array([np.linalg.norm(theta[:P] - BETA) for theta in estimates])
        print(f"{shifted} bad clusters, {'t' if dof else 'normal'}: error of β", errors[shifted, dof].round(3))
weights = robustness_weights(*mixed(fit(clusters(0, 2), 4.0)), *clusters(0, 2), dof=4.0)
print("weights of the bad clusters", weights[:2].round(3), "and the least of the others", weights[2:].min().round(2))

for k, (name, dof) in enumerate((("normal", None), ("t", 4.0))):
    for place, shifted in enumerate((0, 2)):
        axes[1].plot(
            np.full(len(SEEDS), place + 0.2 * k - 0.1),
            errors[shifted, dof],
            "os"[k],
            color=COLOURS[2 * k],
            label=None if place else name,
        )
axes[1].set(ylabel="error of the effects", xlim=(-0.5, 1.5), ylim=(0, None))
axes[1].set_xticks([0, 1], ["clean", "two bad clusters"])
axes[1].legend()

# %%
# Only the line is sure to have a large correlation; the square has one by chance, when samples lie askew. Restarts make
# the accelerated method the fastest; conjugate gradients, whose steps cost more, come between it and the plain proximal
# gradient. And bad clusters pull the normal fit alone.

assert (by_information <= 5).all(), "information has all three among the first five"
assert (by_correlation.max(1) > 5).all() and (by_correlation[:, 2] == 1).all(), "correlation is sure of the line alone"
for other in ("proximal gradient", "accelerated"):
    assert all(a < b for a, b in zip(gaps["with restarts"], gaps[other], strict=True)), "restarts are fastest"
assert all(a < b for a, b in zip(gaps["conjugate"], gaps["proximal gradient"], strict=True))
assert (errors[2, 4.0] < 0.6 * errors[2, None]).all(), "the t distribution is not pulled"
assert errors[0, 4.0].mean() < 1.3 * errors[0, None].mean(), "and costs little where nothing is wrong"
assert weights[:2].max() < 0.5 * weights[2:].min()

# %%
# .. claim:: Mutual information finds variables that correlation misses, accelerated gradients fit sparse models faster
#     than proximal gradients, and t distributed mixed models withstand outliers.
#     :experiment: 100 variables and 300 samples; MCP with 400 variables and 200 samples; 40 clusters of which two are
#         bad; 4 seeds each
#     :controls: correlation; proximal gradients, acceleration without restarts, conjugate gradients, at equal numbers
#         of gradients; the normal mixed model, and clean data
#     :shown: yes at this size; the square comes second or third by correlation, too, in two seeds of four
#
# Make the shift 1.5 in the place of 15 in `clusters`: does the t distribution still help? Screen with
# ``bandwidth=3``: which variable is lost first, and why?
