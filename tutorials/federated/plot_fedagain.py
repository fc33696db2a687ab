"""
Clients with bad data, and one that forges its report
=====================================================

Eight clients train an autoencoder to tell the digits 0 to 4 from the others. Three of them have noisy images, or one
of them claims an error that nobody can beat. Whom does the server listen to, and how well does the result notice what
is not normal?
"""

# %%
# Three cases, five servers
# -------------------------
# In every round each client takes ten steps from the server's parameters. In the case *noise* three clients' images
# have noise of standard deviation 1; in *forger* three clients hold one constant image, which is learnt perfectly.
# Errors are what clients report of their own data, or the server's own, on 40 clean images.

import numpy as np
from sklearn.metrics import roc_auc_score

from trref.experiments.federated import Together, federate
from trref.experiments.figures import use_style
from trref.federated.fedagain import (
    aggregate,
    anomaly_scores,
    autoencoder_loss,
    divergences,
    reconstruction_errors,
    trust_weights,
)
from trref.nn import flat
from trref.problems.digits import digits

plt = use_style()
K, bad, hidden, rounds, local, lr, seeds = 8, 3, 24, 20, 10, 0.02, range(2)
shapes = ((64, hidden), (hidden,), (hidden, 64), (64,))
data = digits(train=1000)
normal = data.X_train[data.y_train < 5]
test, anomalous = data.X_test[:400], data.y_test[:400] >= 5
clean, normal = normal[:40], normal[40:]


def reconstruct(theta, X):
    """What the autoencoder makes of X."""
    W1, b1, W2, b2 = flat.split(theta, shapes)
    return np.tanh(X @ W1 + b1) @ W2 + b2


def clients_of(case, seed):
    """The images of each client; the first three are the bad ones."""
    rng = np.random.default_rng(seed)
    parts = np.array_split(rng.permutation(len(normal)), K)
    images = [normal[rows] for rows in parts]
    for k in range(bad):
        if case == "noise":
            images[k] = images[k] + rng.standard_normal(images[k].shape)
        elif case == "forger":
            images[k] = np.zeros_like(images[k]) + images[k][:1]
    return images


def run(case, signals, where, seed):
    """The area under the curve at the end, and the bad clients' weight in each round."""
    images, weights = clients_of(case, seed), []
    rng = np.random.default_rng([seed, 1])
    theta = flat.join(
        [rng.standard_normal(shape) / shape[0] ** 0.5 if len(shape) > 1 else np.zeros(shape) for shape in shapes]
    )

    def client(k, r, start):
        theta = start
        for _ in range(local):
            gradient = autoencoder_loss(*flat.split(theta, shapes), images[k])[1]
            theta = theta - lr * flat.join(list(gradient))
        judged = images[k] if where == "own data" else clean
        return theta, reconstruction_errors(judged, reconstruct(theta, judged)[None])[0]

    def server(theta, thetas, errors):
        shares = trust_weights(errors, divergences(thetas, theta), signals=signals)
        weights.append(shares[:bad].sum())
        return aggregate(thetas, theta, errors, signals=signals)

    theta, _ = federate(Together(K), client, server, theta, rounds)
    return roc_auc_score(anomalous, anomaly_scores(test, reconstruct(theta, test))), np.array(weights)


servers = {
    "equal": ("none", "own data"),
    "error, reported": ("error", "own data"),
    "divergence": ("divergence", "own data"),
    "FedAgain, reported": ("both", "own data"),
    "FedAgain, measured": ("both", "clean data"),
}
cases = ("nothing", "noise", "forger")
runs = {(case, name): [run(case, *how, seed) for seed in seeds] for case in cases for name, how in servers.items()}

# %%
# Weights and areas
# -----------------

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), sharey=True)
for case, axis in zip(cases, axes, strict=True):
    for name in servers:
        axis.plot(np.arange(1, rounds + 1), np.mean([weights for _, weights in runs[case, name]], 0), label=name)
    axis.set(title=case, xlabel="round")
axes[0].set(ylabel="weight of the three clients", ylim=(-0.03, 1.03))
axes[0].legend(fontsize=8)
area = {key: np.array([value for value, _ in each]) for key, each in runs.items()}
last = {key: np.array([weights[-1] for _, weights in each]) for key, each in runs.items()}

# %%
# What the figure shows
# ---------------------
# Noisy clients are found by either signal, and sooner by both: their weight is near 0 and anomalies are noticed better
# than by equal weights, in both seeds. Where nothing is wrong nothing changes. But a forger that reports its own error
# takes all of the weight, and the result is far worse than with equal weights. If the server measures errors on clean
# images of its own, or looks at divergences alone, the forger has little to say.

for case in cases:
    for name in servers:
        print(f"{case}, {name}: area {area[case, name].round(3)}, weight of the bad {last[case, name].round(3)}")
for name in ("FedAgain, reported", "FedAgain, measured"):
    assert (area["noise", name] > area["noise", "equal"] + 0.005).all(), "noise: better than equal weights"
    assert abs(area["nothing", name] - area["nothing", "equal"]).max() < 0.005, "nothing wrong, nothing changed"
single = np.minimum(last["noise", "error, reported"], last["noise", "divergence"])
assert (last["noise", "FedAgain, reported"] < single / 3).all(), "both signals find noise better than either"
assert (area["forger", "FedAgain, reported"] < area["forger", "equal"] - 0.1).all(), "a forged report wins"
assert (last["forger", "FedAgain, reported"] > 0.95).all(), "with all of the weight"
assert (area["forger", "FedAgain, measured"] > area["forger", "equal"]).all(), "not if the server measures"

# %%
# .. claim:: Weights by two signals, reconstruction error and divergence, make federated anomaly detection robust to
#     corrupted clients and to forgers.
#     :experiment: eight clients with digits 0 to 4, three of them noisy or with one constant image; two seeds
#     :controls: equal weights, either signal alone, and errors that the server measures itself
#     :shown: in part: noise is found, by both signals better than by one; the forger is found only where the server
#         measures errors on data of its own, and ruins the result where it reports them itself
#
# **Exercises.** (1) Let one client return what it was sent. Which weight does it get, and what would a floor under
# divergences do? (2) Give each client two digits of its own. Who is trusted less? (3) Flip the sign of one client's
# step: does the error of the server's model on that client's data notice?
