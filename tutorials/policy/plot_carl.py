"""
Pay the route, and nothing else
===============================

A reward that adds up what is done well pays for standing well. CaRL pays progress alone, and lets minor infractions
take factors off it. In a corridor with a hazard: which reward's best policy arrives, and which one does learning find?
"""

# %%
# The best policies
# -----------------
# Ten cells, go or stop. From one of them, going crashes once in ten times, and costs 1. The additive reward pays 1 for
# a move and 0.3 for standing; the route pays 10 per cell. For each place of the hazard both processes are solved
# exactly, and the optimal policies' shares of the route are compared, and not their rewards.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.policy.carl import carl_reward, completion, soft_penalties
from trref.policy.trpo_improvement import expected_return
from trref.problems.mdp import corridor, optimal_policy

plt = use_style()
CELLS = 10


def completed(policy, hazard, steps=400):
    """The expected share of the route, in per cent."""
    mdp = corridor(CELLS, hazard=hazard)
    state, share = mdp.start, 0.0
    move = mdp.transition[:CELLS, 0][:, 1 : CELLS + 1].max(1)  # the chance that a move succeeds
    for _ in range(steps):
        share += 100 / CELLS * float((state[:CELLS] * policy[:CELLS, 0] * move).sum())
        state = np.einsum("s,sa,sat->t", state, policy, mdp.transition)
    return share


def processes(hazard):
    return {
        "additive": corridor(CELLS, hazard=hazard),
        "route": corridor(CELLS, hazard=hazard, moved=100 / CELLS, stopped=0.0),
    }


best = {
    name: np.array([completed(optimal_policy(processes(h)[name]), h) for h in range(CELLS)])
    for name in ("additive", "route")
}

# %%
# What learning finds
# -------------------
# With the hazard in the sixth cell, policy gradients from sampled episodes: batches of 4 or of 64, and the exact
# gradient, each with the same step length, from a policy that goes half of the time.

HAZARD, STEPS, SEEDS, HORIZON = 5, 150, range(4), 60


def sampled_gradient(rng, z, mdp, episodes):
    """The likelihood-ratio gradient of episodes, with the mean return to go at each tick as baseline."""
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    state, steps = np.zeros(episodes, dtype=int), []
    for _ in range(HORIZON):
        action = (rng.random(episodes) > p[state, 0]).astype(int)
        below = np.cumsum(mdp.transition[state, action], 1) < rng.random((episodes, 1))
        steps.append((state, action, mdp.reward[state, action]))
        state = below[:, :-1].sum(1)
    gradient, to_go = np.zeros_like(z), np.zeros(episodes)
    for t in reversed(range(HORIZON)):
        state, action, reward = steps[t]
        to_go = reward + mdp.gamma * to_go
        weight = mdp.gamma**t * (to_go - to_go.mean()) / episodes
        np.add.at(gradient, state, weight[:, None] * (np.eye(2)[action] - p[state]))
    return gradient


def learn(name, episodes, seed):
    mdp, rng = processes(HAZARD)[name], np.random.default_rng(seed)
    z, shares = np.zeros((CELLS + 2, 2)), []
    scale = abs(mdp.reward).max()
    for step in range(STEPS + 1):
        if step % 10 == 0:
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            shares.append(completed(p, HAZARD, steps=20))
        gradient = -expected_return(z, mdp)[1] if episodes is None else sampled_gradient(rng, z, mdp, episodes)
        z = np.clip(z + 0.5 * gradient / scale, -8, 8)
    return shares


curves = {
    (name, episodes): np.array([learn(name, episodes, s) for s in (SEEDS if episodes else [0])])
    for name in ("additive", "route")
    for episodes in (4, 64, None)
}

# %%
# A drive, tick by tick
# ---------------------
# What the factors do: a drive of 40 ticks at a steady speed, speeding a little for ten of them, once on course for a
# collision, and one without.

ticks = np.arange(40)
calm = {"outside": 0.0 * ticks, "distance": 0.0 * ticks, "junction": 0.0 * ticks, "limit": np.full(40, 10.0)}
calm |= {"speed": np.where((ticks >= 10) & (ticks < 20), 11.0, 10.0), "discomfort": np.zeros((40, 6))}
calm |= {"collision_course": (ticks == 25).astype(float)}
factors = np.stack(soft_penalties(**calm, lasting=8), 1)
done = completion(np.linspace(0, 100, 41))
paid = carl_reward(done, factors, 0.0 * ticks, 0.0 * ticks)

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
for name, share in best.items():
    axes[0].plot(np.arange(1, CELLS + 1), share, "o-", label=f"{name} reward")
axes[0].set(xlabel="cell of the hazard", ylabel="route completed by the optimum, %", ylim=(0, 105))
axes[0].legend()
for (name, episodes), runs in curves.items():
    style = {"color": f"C{['additive', 'route'].index(name)}", "linestyle": {4: ":", 64: "--", None: "-"}[episodes]}
    spread(axes[1], 10 * np.arange(STEPS // 10 + 1), runs, f"{name}, {episodes or 'exact'}", **style)
axes[1].set(xlabel="step", ylabel="route completed in 20 ticks, %", ylim=(0, 105))
axes[1].legend(fontsize=7)
axes[2].step(ticks, done, where="mid", label="completed")
axes[2].step(ticks, paid, where="mid", label="paid")
axes[2].set(xlabel="tick", ylabel="per cent of the route", ylim=(0, None))
axes[2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: A reward of progress alone, with factors for minor infractions, has no bad local optima, and learning from
#         it scales to large batches, where rewards that are added up do not.
#     :experiment: a corridor of ten cells with a hazard in each of them, solved exactly; policy gradients from 4 and 64
#         episodes and exact ones, 4 seeds
#     :controls: an additive reward on the same process
#     :shown: in part: the best policy for the additive reward stops before the goal, and before the hazard where that
#         is far along; for progress it always arrives unless it crashes. The exact gradient leads the additive reward
#         down to half of the route, and that of progress up. What batch size does to large networks is not tried: here
#         more exact gradients find the additive reward's bad optimum more surely
#
# Exercises
# ---------
# 1. In which cell is the hazard a near tie for the additive reward? Compute both values by hand.
# 2. Halve the time step of the drive: twice the ticks, each half as far. What of :eq:`carl-completion` changes?
# 3. Pay 1 at the goal, and clip each tick's completion to 1. Which drives are now worth the same?

for name, share in best.items():
    print(name, share.round(1).tolist())
for key, runs in curves.items():
    print(*key, "completed in 20 ticks:", runs[:, [0, 5, -1]].mean(0).round(1))
later = np.arange(5, CELLS)
assert np.allclose(best["additive"][later], 10.0 * later) and (best["additive"] <= 90).all(), (
    "it stops before the hazard"
)
assert np.allclose(best["route"], 90.0 + np.arange(CELLS)), "for progress only a crash ends the drive"
first, last = ({key: runs[:, k] for key, runs in curves.items()} for k in (0, -1))
for episodes in (4, 64, None):
    assert (last["route", episodes] > first["route", episodes] + 5).all(), "progress is learnt at every batch size"
assert last["additive", None] < 55 < first["additive", None], "the exact gradient goes where the reward is"
assert last["additive", 64].mean() > last["additive", None], "noise keeps it from there for longer"
assert 70 < paid.sum() < 100, "infractions cost a part of the progress that they go with"
