"""
Whose activations are unlike the others'
========================================

Twenty clients hold digits in unlike shares, and six of them attack. An autoencoder that has seen the activation maps of
an honest model judges every client's. Which attacks give themselves away, and what does the defence cost when nobody
attacks?
"""

# %%
# Rounds with and without attackers
# ---------------------------------
# A network 64-32-10 is trained on the server's 100 trigger images for a while; the maps of its last steps train the
# autoencoder, once. Then come ten rounds: clients train, attackers send the server's parameters with the sign
# flipped, with noise, or all 0.01; the server normalises the maps, and spreads trust.

import numpy as np

from trref.experiments.figures import use_style
from trref.federated.fedavg import average
from trref.federated.fedclean import (
    aggregate,
    geometric_median,
    normalised_maps,
    reconstruction_errors,
    trusted,
    vae_objective,
)
from trref.nn import mlp
from trref.optimizers.adam import init, update
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss
from trref.problems.splits import dirichlet_split

plt = use_style()
sizes, clients, bad, rounds, local, lr, seeds = (64, 32, 10), 20, 6, 10, 15, 0.2, range(2)
data = digits(train=1300)
trigger, rest = slice(0, 100), slice(100, 1300)
X, y = data.X_train[trigger], data.y_train[trigger]
condition = np.eye(10)[y]
E, latents = 20, 4
length = E * (2 * 32 + 2 * 10 + 3 * latents + 2) + 2 * latents + 32
attacks = {
    "nobody": None,
    "sign flipped": lambda theta, rng: -theta,
    "noise": lambda theta, rng: theta + rng.standard_normal(len(theta)),
    "same value": lambda theta, rng: 0.01 + 0 * theta,
}


def maps_of(thetas):
    """Pre-activations of the hidden layer on the trigger images, about their median."""
    maps = np.stack([X @ mlp.unpack(theta, sizes)[0][0] + mlp.unpack(theta, sizes)[0][1] for theta in thetas])
    median = geometric_median(maps.reshape(len(maps), -1), rtol=1e-8).point
    return normalised_maps(maps, median.reshape(maps.shape[1:]))


def autoencoder(theta, rng):
    """Trained on the maps of ten later steps of an honest model."""
    loss, path = ClassifierLoss(X, y, sizes), []
    for step in range(40):
        theta = theta - lr * loss(theta)[1]
        if step >= 30:
            path.append(theta)
    maps = maps_of(path)
    phi, state = [0.1 * rng.standard_normal(length)], None
    state = init(phi)
    for step in range(150):
        noise = rng.standard_normal((len(X), latents))
        g = vae_objective.unchecked(phi[0], maps[step % 10], condition, noise, beta=0.01)[1]
        phi, state = update.unchecked(phi, [g], state, lr=0.01)
    return phi[0]


def run(attack, defended, seed):
    """Test accuracy by round; errors in each round; shares of attackers and of honest clients that are accepted."""
    rng = np.random.default_rng(seed)
    owner = dirichlet_split(rng, data.y_train[rest], clients, 0.5)
    parts = [np.flatnonzero(owner == k) + 100 for k in range(clients)]
    counts = np.array([float(len(part)) for part in parts])
    theta = mlp.init(rng, sizes)
    phi, path, told = autoencoder(theta, rng), [], []
    for _ in range(rounds):
        ends = []
        for k in range(clients):
            end = theta
            if k < bad and attacks[attack]:
                ends.append(attacks[attack](theta, rng))
                continue
            for _ in range(local):
                rows = parts[k][rng.integers(0, len(parts[k]), 20)]
                end = end - lr * ClassifierLoss(data.X_train[rows], data.y_train[rows], sizes)(end)[1]
            ends.append(end)
        ends = np.array(ends)
        if defended:
            errors = reconstruction_errors(phi, maps_of(ends), condition, np.zeros((len(X), latents)))
            kept = trusted(errors)
            told.append([errors, kept])
            theta = aggregate(ends, counts, errors)
        else:
            theta = average(ends, counts)
        path.append((mlp.forward(theta, data.X_test, sizes)[0].argmax(1) == data.y_test).mean())
    return np.array(path), np.array(told)


runs = {
    (attack, defended): [run(attack, defended, seed) for seed in seeds]
    for attack in attacks
    for defended in (False, True)
}

# %%
# Errors, and accuracy
# --------------------
# On the left the errors of the first seed's rounds, attackers above; on the right the accuracy with the defence, and
# dashed without.

figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6))
for at, (attack, colour) in enumerate(zip(attacks, ("#0072b2", "#c98500", "#009e73", "#cc79a7"), strict=True)):
    errors = runs[attack, True][0][1][:, 0]
    for shift, who in ((-0.15, slice(bad, None)), (0.15, slice(0, bad))):
        values = errors[:, who].ravel()
        axes[0].plot(values, at + shift + 0 * values, "." if shift < 0 else "x", color=colour)
    for defended, style in ((True, "-"), (False, "--")):
        path = np.mean([path for path, _ in runs[attack, defended]], 0)
        label = attack if defended else None
        axes[1].plot(range(1, rounds + 1), path, style, color=colour, label=label)
axes[0].set_yticks(range(len(attacks)), attacks)
axes[0].set(xscale="log", xlabel="error (crosses: the first six clients)")
axes[1].set(xlabel="round", ylabel="test accuracy", ylim=(0, 1))
axes[1].legend(fontsize=8)

# %%
# What the figure shows
# ---------------------
# Flipped signs and noise give themselves away by errors far above all others, and the network learns as if nobody
# attacked; without the defence it hardly learns. But parameters that are all 0.01 make maps that are unremarkable: such
# attackers are accepted, may even be the seed that shuts honest clients out, and the defence is no better than none.
# Where nobody attacks nearly all clients are kept, and the accuracy is that of the plain average.

right = {key: np.array([path[-3:].mean() for path, _ in each]) for key, each in runs.items()}
kept = {attack: np.array([told[:, 1].mean(0) for _, told in runs[attack, True]]) for attack in attacks}
for attack in attacks:
    accepted = kept[attack][:, :bad].mean(1).round(2), kept[attack][:, bad:].mean(1).round(2)
    print(f"{attack}: accuracy {right[attack, True].round(3)}, without {right[attack, False].round(3)};", end=" ")
    print(f"accepted of the first six {accepted[0]}, of the others {accepted[1]}")
for attack in ("sign flipped", "noise"):
    assert (right[attack, True] > right[attack, False] + 0.1).all(), "strong attacks are caught, for both seeds"
    assert kept[attack][:, :bad].max() < 0.2 and kept[attack][:, bad:].mean() > 0.9, "and honest clients kept"
    assert (right[attack, True] > right["nobody", False] - 0.06).all(), "nearly as if nobody attacked"
assert (right["nobody", True] > right["nobody", False] - 0.02).all(), "without attackers little is lost"
assert right["same value", True].mean() < 0.8, "an attack with unremarkable maps is not caught"
assert kept["same value"][:, :bad].mean() > 0.2, "it is trusted"

# %%
# .. claim:: Errors of activation maps tell attackers from honest clients whose data are unlike.
#     :experiment: twenty clients with digits in shares of concentration 0.5, six of them attack in one of three ways,
#         ten rounds, two seeds
#     :controls: federated averaging; no attack
#     :shown: in part: flipped signs and noise are caught, and nearly nothing is lost without attackers; parameters of
#         one small value pass, and the defence is no better than none
#
# **Exercises.** (1) Ask for a majority: does that help against the same value? (2) Weigh the divergence as the
# authors' code does. What does the autoencoder reconstruct? (3) Let a single attacker send ten times the parameters
# beside the others: whom does the wider range let in?
