"""
Federated averaging: local steps instead of rounds
==================================================

Ten clients hold the digits and do not show them. In each round they may send parameters once. Is a round better spent
on one exact gradient, or on many steps that everybody takes alone?
"""

# %%
# Rounds
# ------
# FedSGD sends one gradient of all of a client's data, which makes one step of gradient descent on all data; we try two
# rates and keep the better one in each split. FedAvg takes five epochs of small batches at every client. The clients'
# data are alike, or each client has few of the classes.

import numpy as np

from trref.experiments.classifiers import digits_task
from trref.experiments.federated import Together, client_losses, federate
from trref.experiments.figures import spread, use_style
from trref.experiments.training import batches
from trref.federated.fedavg import average
from trref.nn import mlp

plt = use_style()
seeds, K = range(3), 10
task = digits_task(points=600, sizes=(64, 50, 10))


def accuracy(theta):
    return float((task.loss.predict(theta, task.X_test) == task.y_test).mean())


def steps_alone(loss, theta, rng, *, lr, epochs, batch):
    """Stochastic gradient descent of one client."""
    rows = batches(rng, len(loss), batch)
    for _ in range(epochs * -(-len(loss) // batch)):
        theta = theta - lr * loss.on(next(rows))(theta)[1]
    return theta


def rounds_of(concentration, seed, rounds, **how):
    """Test accuracy after each round."""
    rng = np.random.default_rng(seed)
    clients = client_losses(rng, task.loss, K, concentration)
    theta = mlp.init(rng, task.loss.sizes, scale=2**0.5)

    def client(k, r, theta):
        rng = np.random.default_rng([seed, k, r])
        return steps_alone(clients[k], theta, rng, **how), np.float64(len(clients[k]))

    server = lambda theta, thetas, counts: average(thetas, counts)  # noqa: E731
    return federate(Together(K), client, server, theta, rounds, watch=accuracy)[1]


ways = {
    "FedSGD, rate 0.3": (60, {"lr": 0.3, "epochs": 1, "batch": 600}),
    "FedSGD, rate 1": (60, {"lr": 1.0, "epochs": 1, "batch": 600}),
    "FedAvg, 5 epochs": (15, {"lr": 0.1, "epochs": 5, "batch": 10}),
}
splits = {"clients alike": 100.0, "few classes a client": 0.1}
curves = {
    split: {name: [rounds_of(c, s, rounds, **how) for s in seeds] for name, (rounds, how) in ways.items()}
    for split, c in splits.items()
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), sharey=True)
for axis, (split, each) in zip(axes, curves.items(), strict=True):
    for name, runs in each.items():
        spread(axis, range(1, len(runs[0]) + 1), runs, name)
    axis.set(title=split, xlabel="rounds", xscale="log")
axes[0].set(ylabel="test accuracy")
axes[0].legend()

# %%
# May parameters be averaged?
# ---------------------------
# Two networks, trained apart on halves of the data, and the mixtures between them: from one start, or from two.

mixing, mixtures = np.linspace(0.001, 0.999, 11), {"one start": [], "two starts": []}
for seed in seeds:
    rng = np.random.default_rng([seed, 7])
    halves = client_losses(rng, task.loss, 2, 100.0)
    starts = [mlp.init(rng, task.loss.sizes, scale=2**0.5) for _ in range(2)]
    for name, pair in (("one start", (starts[0], starts[0])), ("two starts", starts)):
        ends = [
            steps_alone(half, start, rng, lr=0.1, epochs=5, batch=10) for half, start in zip(halves, pair, strict=True)
        ]
        counts = np.stack([1 - mixing, mixing], 1)
        mixtures[name].append([float(task.loss(average(np.stack(ends), c))[0]) for c in counts])
figure, axis = plt.subplots()
for name, values in mixtures.items():
    spread(axis, mixing, values, name, marker="o")
axis.set(xlabel="share of the second network", ylabel="loss on all data")
axis.legend()

# %%
# What the figures show
# ---------------------
# Where clients are alike, a few rounds of averaging do what takes descent many times as many. Where each has few
# classes much of that is lost, in some seeds nearly all of it: their networks end far apart. From one start the mean of
# two networks is better than they are on average, and mostly than both; from two starts it is worse than both.


def rounds_to(level, runs):
    """Rounds until the level is reached, one a seed; one more than there were if it is not."""
    reached = np.array(runs) >= level
    return np.where(reached.any(1), reached.argmax(1) + 1, reached.shape[1] + 1)


needed = {split: {name: rounds_to(0.85, runs) for name, runs in each.items()} for split, each in curves.items()}
for split, each in needed.items():
    print(split, {name: rounds.tolist() for name, rounds in each.items()})
ratio = {}
for split, each in needed.items():
    descent = min(each["FedSGD, rate 0.3"], each["FedSGD, rate 1"], key=np.mean)
    ratio[split] = descent / each["FedAvg, 5 epochs"]
    print(f"{split}: FedSGD needs {ratio[split].round(1).tolist()} times as many rounds")
assert ratio["clients alike"].min() > 3, "three times fewer rounds where clients are alike, in every seed"
assert ratio["few classes a client"].mean() < ratio["clients alike"].mean(), "less is saved where they are not"
for name, values in mixtures.items():
    ends, middle = np.array(values)[:, [0, -1]], np.array(values)[:, 5]
    print(f"{name}: ends {ends.round(2).tolist()}, middle {middle.round(2).tolist()}")
    if name == "one start":
        assert (middle < ends.mean(1)).all(), "from one start the mean is better than its parts on average"
    else:
        assert (middle > ends.max(1)).all(), "from two starts it is worse than both, in every seed"

# %%
# .. claim:: Averaging after many local steps needs 10 to 100 times fewer rounds than one step a round, also where
#     clients hold different classes.
#     :experiment: ten clients share 600 digits, alike or with few classes each; rounds until 85 % of the test images
#         are read, three seeds; mixtures of two networks
#     :controls: gradient descent on all data at the better of two rates; networks from two starts
#     :shown: in part: fewer rounds in every seed where clients are alike, by a factor of three and more, but not of
#         ten and more; where they are not, hardly fewer in two seeds of three
