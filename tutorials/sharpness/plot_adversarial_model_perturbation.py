"""
The worst loss in a ball, and which of two wells it prefers
===========================================================

Adversarial model perturbation minimises the worst loss in a ball, as SAM does, but climbs to it with a step of fixed
rate, so that small gradients give small perturbations. First the loss itself, then what it does to noisy labels.
"""

# %%
# A deep narrow and a shallow wide well
# -------------------------------------
# On a line the worst loss in a ball is that of an end of an interval, and can be drawn. Theory says at which radius the
# wide well takes over, for wells as far apart as these.

import numpy as np

from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import spread, use_style
from trref.problems.wells import GaussianWells
from trref.sharpness import sam
from trref.sharpness.adversarial_model_perturbation import perturbed_gradient

plt = use_style()
depths, precisions = np.array([1.0, 0.7]), np.array([1 / 0.3**2, 1.0])
wells = GaussianWells(depths, np.array([[-3.0], [3.0]]), precisions, offset=1.0)
threshold = np.sqrt(2 * np.log(depths[0] / depths[1]) / (precisions[0] - precisions[1]))
x, radii = np.linspace(-5, 6, 2201), (0.0, 0.8 * threshold, 1.2 * threshold, 0.8)


def worst(radius):
    inside = x + np.linspace(-radius, radius, 101)[:, None]
    return wells(inside[..., None])[0].max(0)


figure, axis = plt.subplots()
lowest = {}
for radius in radii:
    line = axis.plot(x, worst(radius), label=f"radius {radius:.2f}")[0]
    lowest[radius] = x[worst(radius).argmin()]
    axis.plot(lowest[radius], worst(radius).min(), "o", color=line.get_color())
axis.set(xlabel="parameter", ylabel="worst loss in the ball")
axis.legend()

# %%
# Noisy labels
# ------------
# The digits with 30 % noisy labels, as for SAM (:doc:`plot_sam`): same start, same batches, and for Adam twice as many
# steps, for a step of the others takes two gradients.

seeds, epochs = range(3), 40
task = digits_task(noise=0.3)


def with_amp(rho, inner_lr):
    return lambda loss, theta, rng: perturbed_gradient(loss, theta, rho=rho, inner_lr=inner_lr)


choices = {
    "Adam": (None, 2 * epochs),
    "SAM, radius 0.3": (lambda loss, theta, rng: sam.perturbed_gradient(loss, theta, rho=0.3), epochs),
    "AMP, radius 0.3, rate 1": (with_amp(0.3, 1.0), epochs),
    "AMP, radius 0.3, rate 0.1": (with_amp(0.3, 0.1), epochs),
}
runs = {
    name: [train(task, seed=s, gradient=gradient, epochs=n, lr=2e-3) for s in seeds]
    for name, (gradient, n) in choices.items()
}
figure, axis = plt.subplots()
for name, results in runs.items():
    spread(axis, np.array(results[0].gradients) / 8, [r.accuracies for r in results], name)
axis.set(xlabel="gradients of the whole training set", ylabel="test accuracy (clean labels)")
axis.legend()

# %%
# What the figures show
# ---------------------
# The minimum of the worst loss leaves the deeper well where theory says. In training AMP keeps out much of the noise
# that Adam fits with as many gradients. With the rate of 1 it is SAM, to the last digit, for no gradient here is so
# small that the ball does not cut its step; with a rate of 0.1 it is weaker where the gradients are small, and ends
# between SAM and Adam.

print(f"the wide well takes over at radius {threshold:.3f}")
for radius, place in lowest.items():
    print(f"radius {radius:.3f}: the least worst loss is at {place:.2f}")
    assert (place > 0) == (radius > threshold), "the wide well wins from the threshold on"
accuracy = {name: np.array([r.accuracies[-1] for r in results]) for name, results in runs.items()}
for name, values in accuracy.items():
    print(f"{name:26} accuracy {values.mean():.3f} ± {values.std():.3f}")
assert accuracy["AMP, radius 0.3, rate 1"].min() > accuracy["Adam"].max(), "AMP resists the noise, in every seed"
same = [
    abs(a.theta - s.theta).max() for a, s in zip(runs["AMP, radius 0.3, rate 1"], runs["SAM, radius 0.3"], strict=True)
]
print(f"with rate 1 the weights differ from SAM's by {max(same):.1e}")
assert max(same) < 1e-6, "with rate 1 it is SAM"
slow = accuracy["AMP, radius 0.3, rate 0.1"]
assert (accuracy["Adam"] < slow).all() and (slow < accuracy["SAM, radius 0.3"]).all(), "with rate 0.1 it lies between"

# %%
# .. claim:: Minimising the worst loss in a ball finds flatter minima, which generalise better.
#     :experiment: the worst loss over two wells on a line; a small network on 400 digits, 30 % of the labels noise,
#         three seeds of start and batches
#     :controls: Adam with as many gradients, SAM; the radius at which theory says that the wide well takes over
#     :shown: in part: the wide well takes over at that radius, and AMP is more accurate than Adam in every seed; but
#         where its step is cut to the ball it is SAM, and better than SAM it is nowhere here
