"""
A reference that follows
========================

TR-DPO replaces or mixes the reference by the policy every few steps. We look at what that does to the weights of pairs,
how far the policy goes, and whether it earns more at the same distance.
"""

# %%
# Twelve answers, few comparisons
# -------------------------------
# The rewards are known to us; the policy sees 150 comparisons by Bradley and Terry's law, five seeds. DPO at two values
# of :math:`\beta`; TR-DPO with soft and hard updates every 50 steps, and hard ones every 10.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.preferences import train_pairs
from trref.experiments.training import Rule
from trref.preferences.dpo import dpo, optimal_policy
from trref.preferences.tr_dpo import reference_path, soft_update
from trref.problems.preferences import AnswerPolicy, PreferenceBandit

plt = use_style()
K, seeds, steps = 12, 5, 300
policy = AnswerPolicy.table(1, K)
descent = Rule(lambda params: None, lambda params, grads, state, *, lr: ([params[0] - lr * grads[0]], state))


def learn(seed, beta=0.5, alpha=0.0, every=steps):
    rng = np.random.default_rng(seed)
    reward, start = rng.standard_normal(K), 0.5 * rng.standard_normal(K)
    data = PreferenceBandit(reward[None]).compare(rng, 150)
    first, latest = policy.log_prob(start)[0], [start]

    def follow(ref_theta, theta, step):
        if step and step % every == 0:
            ref_theta = soft_update(ref_theta, theta, alpha=alpha)
        latest[0] = ref_theta
        return ref_theta

    def watch(theta):
        log_p, ref = policy.log_prob(theta)[0], policy.log_prob(latest[0])[0]
        h = beta * ((log_p - ref)[data.chosen] - (log_p - ref)[data.rejected])
        p = np.exp(log_p)
        return p @ reward, p @ (log_p - first), (1 / (1 + np.exp(h))).mean()

    options = {"lr": 20.0, "rule": descent, "steps": steps, "every": 5, "watch": watch}
    run = train_pairs(dpo, policy, data, start, hyper={"beta": beta}, reference=follow, **options)
    return np.array(run.watched).T


arms = {
    "DPO, β = 0.5": {},
    "DPO, β = 0.1": {"beta": 0.1},
    "soft, every 50": {"alpha": 0.6, "every": 50},
    "hard, every 50": {"alpha": 1.0, "every": 50},
    "hard, every 10": {"alpha": 1.0, "every": 10},
}
runs = {name: np.array([learn(seed, **arm) for seed in range(seeds)]) for name, arm in arms.items()}
at = np.arange(5, steps + 1, 5)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6))
for name, values in runs.items():
    spread(axes[0], at, values[:, 2].tolist(), name)
    spread(axes[1], at, values[:, 1].tolist(), name)
    axes[2].plot(values[:, 1].mean(0), values[:, 0].mean(0), label=name)
axes[0].set(xlabel="step", title="mean weight of a pair")
axes[1].set(xlabel="step", title="KL to the first reference")
axes[2].set(xlabel="KL to the first reference", title="expected reward")
axes[2].legend()

# %%
# With all comparisons there is one path
# --------------------------------------
# In the population's limit, each stretch trained to its end, updates of the reference and smaller :math:`\beta` give
# the same policies.

reward, start = np.random.default_rng(0).standard_normal((2, K))
three = reference_path(start, reward, beta=0.5, alpha=1.0, updates=3)
assert np.allclose(three, optimal_policy(start, reward, beta=0.5 / 3)), "three hard updates are a third of beta"

# %%
# What the figure shows
# ---------------------
# The moving reference goes further at the same :math:`\beta`, on the same path: at one nat from the start all earn the
# same, and DPO with a smaller :math:`\beta` gets as far. Frequent hard updates keep the weights near one half; the
# weights of DPO settle where the noise of the comparisons leaves them, and so do those of rare updates at the end of a
# stretch.

for name, values in runs.items():
    end = values[:, :, -1]
    print(f"{name:16} reward {end[:, 0].mean():.2f} +- {end[:, 0].std():.2f}  KL {end[:, 1].mean():.2f}", end="  ")
    print(f"weight, mean of the run {values[:, 2].mean():.3f}")
moving = list(arms)[2:]
for name in moving:
    assert (runs[name][:, 1, -1] > runs["DPO, β = 0.5"][:, 1, -1] + 0.1).all(), "it goes further at the same beta"
assert (runs["hard, every 10"][:, 2].mean(1) > runs["DPO, β = 0.5"][:, 2].mean(1)).all(), "weights vanish less"


def at_one_nat(values):
    return np.array([np.interp(1.0, kl, earned) for earned, kl, _ in values])


at_one = {name: at_one_nat(values).mean() for name, values in runs.items()}
print("expected reward one nat from the start:", {name: round(float(v), 3) for name, v in at_one.items()})
assert all(abs(at_one[name] - at_one["DPO, β = 0.5"]) < 0.05 for name in moving), (
    "but earns no more at the same distance"
)

# %%
# .. claim:: A reference that follows the policy reaches better policies than a fixed one.
#     :experiment: twelve answers with known rewards, 150 noisy comparisons, five seeds; soft updates and two
#         frequencies of hard ones
#     :controls: DPO at the same beta and at a fifth of it; the expected reward at one distance from the start; the path
#         in closed form
#     :shown: in part: it goes further at the same beta in every seed, and weights vanish less where updates are
#         frequent; but along the same path. At one nat from the start all earn the same within 0.05, and a smaller beta
#         does as well
