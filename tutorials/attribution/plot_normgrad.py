"""
How much would each place of an image train the network?
========================================================

Many maps say what a network looks at. A family of them asks how much each place would contribute to the gradient of a
layer that is not even there. Which of these maps find the digit in an image, and do they depend on the class that is
asked for?
"""

# %%
# A small convolutional network
# -----------------------------
# Two 3×3 convolutions of 8 channels, the second with a stride of 2, a global average and a linear head, trained on
# digits that lie in one quarter of a 16×16 canvas with clutter.

import numpy as np

from trref.attribution.normgrad import class_sensitivity, grad_cam, meta_parameters, saliency
from trref.experiments.figures import use_style
from trref.experiments.training import train as steps_of
from trref.nn import flat
from trref.nn.conv import conv2d, conv2d_vjp
from trref.nn.losses import softmax_cross_entropy
from trref.problems.digits import digits

plt = use_style()
seeds, C = range(3), 8
SHAPES = [(C, 1, 3, 3), (C,), (C, C, 3, 3), (C,), (10, C), (10,)]
data = digits(train=1000)


def canvas(X, rng):
    """Digits in one quarter; strokes of other digits, cut to a few pixels, in the rest."""
    N = len(X)
    images, quarter = np.zeros((N, 1, 16, 16)), rng.integers(0, 4, N)
    for n in range(N):
        for _ in range(6):
            piece = data.X_train[rng.integers(1000)].reshape(8, 8)[2:5, 2:5]
            i, j = rng.integers(0, 14, 2)
            images[n, 0, i : i + 3, j : j + 3] = 0.6 * piece
        i, j = 8 * (quarter[n] // 2), 8 * (quarter[n] % 2)
        images[n, 0, i : i + 8, j : j + 8] = X[n].reshape(8, 8)
    return images, quarter


def forward(theta, x):
    W1, b1, W2, b2, A, a = flat.split(theta, SHAPES)
    h1 = np.maximum(conv2d(x, W1, b1, padding=1), 0)
    h2 = np.maximum(conv2d(h1, W2, b2, stride=2, padding=1), 0)
    return h1, h2, h2.mean((2, 3)) @ A.T + a


def backward(theta, x, h1, h2, slope):
    """Gradients by parameters, and by the image and both layers."""
    W1, _, W2, _, A, _ = flat.split(theta, SHAPES)
    d2 = (slope @ A)[:, :, None, None] / h2[0, 0].size + 0 * h2
    d1, dW2, db2 = conv2d_vjp(h1, W2, d2 * (h2 > 0), stride=2, padding=1)
    d0, dW1, db1 = conv2d_vjp(x, W1, d1 * (h1 > 0), padding=1)
    return flat.join([dW1, db1, dW2, db2, slope.T @ h2.mean((2, 3)), slope.sum(0)]), (d0, d1, d2)


def loss_of(x, y):
    def loss(theta):
        h1, h2, logits = forward(theta, x)
        value, slope = softmax_cross_entropy(logits, y)
        return value, backward(theta, x, h1, h2, slope)[0]

    return loss


def trained(seed):
    rng = np.random.default_rng(seed)
    images, _ = canvas(data.X_train, rng)
    start = flat.join([rng.standard_normal(s) * (2 / max(np.prod(s[1:]), 1)) ** 0.5 * (len(s) > 1) for s in SHAPES])

    def gradient(theta, rng):
        rows = rng.integers(0, 1000, 32)
        return loss_of(images[rows], data.y_train[rows])(theta)

    return steps_of(gradient, start, rng, lr=2e-2, steps=400).theta


# %%
# Maps
# ----
# At the image, after the first and after the second layer. The pointing game: does the largest place of the map lie in
# the digit's quarter?

KINDS = {
    "gradient": lambda x, g: saliency(x, g, layer="bias"),
    "linear": lambda x, g: saliency(x, g, layer="scaling", how="sum"),
    "Grad-CAM": grad_cam,
    "NormGrad 1x1": saliency,
    "NormGrad 3x3": lambda x, g: saliency(x, g, layer="conv"),
    "NormGrad scaling": lambda x, g: saliency(x, g, layer="scaling"),
    "selective": lambda x, g: saliency(x, g, layer="scaling", how="positive"),
}


def maps(theta, x, labels):
    """Of all kinds at all three depths, for one class an image."""
    h1, h2, _ = forward(theta, x)
    _, gradients = backward(theta, x, h1, h2, np.eye(10)[labels])
    depths = list(enumerate(zip((x, h1, h2), gradients, strict=True)))
    return {(name, d): f(h, g) for name, f in KINDS.items() for d, (h, g) in depths}


def after_meta(theta, x, labels):
    each = []
    for i in range(len(x)):
        image, label = x[i : i + 1], labels[i : i + 1]
        each.append(maps(meta_parameters(loss_of(image, label), theta, lr=0.1), image, label))
    return {key: np.concatenate([m[key] for m in each]) for key in each[0]}


def judge(seed):
    theta = trained(seed)
    rng = np.random.default_rng([seed, 1])
    x, quarter = canvas(data.X_test[:50], rng)
    logits = forward(theta, x)[2]
    likely, unlikely = logits.argmax(1), logits.argmin(1)
    found = maps(theta, x, data.y_test[:50])
    hits = {}
    for key, m in found.items():
        place = m.reshape(50, -1).argmax(1)
        s = m.shape[1]  # places a row
        hits[key] = np.mean(place // s // (s // 2) * 2 + place % s // (s // 2) == quarter)
    ours, other = maps(theta, x, likely), maps(theta, x, unlikely)
    plain = {k: class_sensitivity(ours[k], other[k]).mean() for k in ours}
    ours, other = after_meta(theta, x[:8], likely[:8]), after_meta(theta, x[:8], unlikely[:8])
    meta = {k: class_sensitivity(ours[k], other[k]).mean() for k in ours}
    return (logits.argmax(1) == data.y_test[:50]).mean(), hits, plain, meta, (x, found)


runs = [judge(seed) for seed in seeds]
x, found = runs[0][4]
figure, axes = plt.subplots(3, 8, figsize=(10, 4.2))
for d in range(3):
    axes[d, 0].imshow(x[0, 0], cmap="gray_r")
    axes[d, 0].set(ylabel=("image", "layer 1", "layer 2")[d], xlabel="column", title="canvas" if d == 0 else "")
    for axis, name in zip(axes[d, 1:], KINDS, strict=True):
        axis.imshow(found[name, d][0], cmap="viridis")
        axis.set(title=name if d == 0 else "", xlabel="column", ylabel="row")
        axis.title.set_fontsize(7)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])

H, S, M = ({key: np.array([r[k][key] for r in runs]) for key in runs[0][k]} for k in (1, 2, 3))
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8))
for d, label in enumerate(("image", "layer 1", "layer 2")):
    values = np.array([H[name, d] for name in KINDS])
    axes[0].bar(np.arange(7) + 0.27 * (d - 1), values.mean(1), 0.25, yerr=values.std(1), label=label)
for k, (values, label) in enumerate(((S, "plain"), (M, "after a meta step"))):
    shown = np.array([values[name, 2] for name in KINDS])
    axes[1].bar(np.arange(7) + 0.36 * (k - 0.5), shown.mean(1), 0.34, yerr=shown.std(1), label=label)
axes[0].axhline(0.25, color="k", ls=":", label="chance")
for axis in axes:
    axis.set_xticks(range(7), KINDS, rotation=35, ha="right", fontsize=7)
    axis.set(xlabel="map")
    axis.legend(fontsize=7)
axes[0].set(ylabel="pointing game")
axes[1].set(ylabel="rank correlation of two classes, layer 2")

# %%
# What the figures show
# ---------------------
# The largest place of a NormGrad map lies in the digit's quarter at any depth. Grad-CAM's does so in the last layer,
# for which it was made, and much less often at the image. But after the last layer the 1×1 norm has the same order of
# places whatever class is asked for, for the gradient is the same everywhere: what it finds is where something is, not
# where the class is. The scaling's positive part depends on the class, and a step of learning makes all norms depend on
# it.

print("accuracy on canvases:", np.round([r[0] for r in runs], 3))
for name in KINDS:
    points, plain, meta = ([f"{v[name, d].mean():.2f}" for d in range(3)] for v in (H, S, M))
    print(f"{name:17} pointing {points}, sensitivity {plain}, after a step {meta}")
for name in ("NormGrad 1x1", "NormGrad 3x3", "NormGrad scaling"):
    assert all((H[name, d] > 0.75).all() for d in range(3)), f"{name}: finds the digit at any depth, in every seed"
behind = H["NormGrad 1x1", 0] - H["Grad-CAM", 0]
assert (behind > 0).all() and behind.mean() > 0.1, "Grad-CAM does so less often at the image, in every seed"
assert (H["Grad-CAM", 2] > 0.75).all(), "and does in the last layer"
assert np.allclose(S["NormGrad 1x1", 2], 1, atol=1e-9), "the 1x1 norm has one order for all classes there"
assert (S["selective", 2] < 0.8).all(), "the positive part has not"
for name in ("NormGrad 1x1", "NormGrad 3x3"):
    assert (M[name, 2] < S[name, 2] - 1e-3).all(), f"{name}: after a step of learning classes differ, in every seed"

# %%
# **Exercises.** (1) Why is the bias map constant after the last layer? (2) Show that the norm of the weights' gradient
# is at most the sum of the map. (3) Take the step away from the class: what becomes of the sensitivity?
#
# .. claim:: Norms of a virtual layer's gradient localise objects in all layers, where Grad-CAM needs the last one; a
#         step of learning makes maps depend on the class.
#     :experiment: a network of two convolutions on digits in a quarter of a cluttered canvas; pointing game at three
#         depths, rank correlation of the maps of two classes, three seeds
#     :controls: the gradient, the linear approximation, Grad-CAM; the maps without the step; chance
#     :shown: yes: NormGrad finds the quarter at all depths, in every seed; its 1×1 form does not depend on the class in
#         the last layer until a step is taken
