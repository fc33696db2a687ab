"""
The highest loss nearby, or the steepest slope
==============================================

SAM measures sharpness by how far the loss rises in a ball. A ripple hardly changes that, but it changes the slope. GAM
measures the largest slope. Does minimising it end in flatter places, for the same number of gradients?
"""

# %%
# A parabola and a ripple
# -----------------------
# Both flatness measures of a parabola, smooth and with a small ripple.

import numpy as np

from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import spread, use_style
from trref.sharpness import sam
from trref.sharpness.gam import gam_accelerated

plt = use_style()
radii = np.linspace(0.05, 0.8, 16)
wave, height = 25.0, 0.01
functions = {
    "smooth": (lambda x: x**2, lambda x: 2 * x),
    "rippled": (
        lambda x: x**2 + height * (1 - np.cos(wave * x)),
        lambda x: 2 * x + height * wave * np.sin(wave * x),
    ),
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
rise, flatness = {}, {}
for name, (value, slope) in functions.items():
    x = radii[:, None] * np.linspace(-1, 1, 801)
    rise[name] = value(x).max(1) - value(0.0)
    flatness[name] = radii * abs(slope(x)).max(1)
    axes[0].plot(radii, rise[name], label=name)
    axes[1].plot(radii, flatness[name], label=name)
axes[0].set(xlabel="radius", ylabel="largest rise in the ball")
axes[1].set(xlabel="radius", ylabel="radius times largest slope")
axes[0].legend()

# %%
# Noisy labels
# ------------
# The digits with 30 % noisy labels, as for SAM (:doc:`plot_sam`). Every method gets as many gradients: a step of SAM
# takes two, one of GAM four.

seeds, epochs = range(3), 96
task = digits_task(noise=0.3)


def by_sam(rho):
    return lambda loss, theta, rng: sam.perturbed_gradient(loss, theta, rho=rho)


def by_gam(loss, theta, rng):
    return gam_accelerated(loss, theta, rho=0.2, inner_rho=0.1, alpha=0.1, beta=0.1, gamma=0.05)


choices = {
    "Adam": (None, epochs),
    "SAM, radius 0.1": (by_sam(0.1), epochs // 2),
    "SAM, radius 0.3": (by_sam(0.3), epochs // 2),
    "GAM, radii 0.2 and 0.1": (by_gam, epochs // 4),
}
runs = {
    name: [train(task, seed=s, gradient=gradient, epochs=n, lr=2e-3) for s in seeds]
    for name, (gradient, n) in choices.items()
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
for i, (name, results) in enumerate(runs.items()):
    spread(axes[0], np.array(results[0].gradients) / 8, [r.accuracies for r in results], name)
    axes[1].plot([r.curvature for r in results], [r.accuracies[-1] for r in results], "o", color=f"C{i}", label=name)
axes[0].set(xlabel="gradients of the whole training set", ylabel="test accuracy (clean labels)")
axes[1].set(xlabel="largest Hessian eigenvalue", ylabel="test accuracy", xscale="log")
axes[0].legend()

# %%
# What the figures show
# ---------------------
# The ripple changes the largest rise by a per cent and the largest slope by far more. In training GAM ends in flatter
# places than SAM with the same inner radius, and than Adam. But so does SAM with a larger radius, in steps of half the
# price.

curvature = {name: np.array([r.curvature for r in results]) for name, results in runs.items()}
accuracy = {name: np.array([r.accuracies[-1] for r in results]) for name, results in runs.items()}
for name in runs:
    print(
        f"{name:23} accuracy {accuracy[name].mean():.3f} ± {accuracy[name].std():.3f}, "
        f"curvature {curvature[name].mean():5.2f} ± {curvature[name].std():.2f}, "
        f"gradients {runs[name][0].gradients[-1]:.0f}"
    )
more = {name: (each["rippled"] / each["smooth"])[-1] - 1 for name, each in (("rise", rise), ("slope", flatness))}
print(f"at the largest radius the ripple adds {more['rise']:.1%} to the rise, {more['slope']:.1%} to the slope")
assert more["slope"] > 4 * more["rise"], "the ripple is seen by the slope"
gam = "GAM, radii 0.2 and 0.1"
assert curvature[gam].max() < curvature["SAM, radius 0.1"].min(), "GAM is flatter than SAM of its inner radius"
assert accuracy[gam].min() > accuracy["Adam"].max(), "and resists the noise, in every seed"
assert curvature["SAM, radius 0.3"].max() < curvature["Adam"].min(), "as SAM with a larger radius does"

# %%
# .. claim:: Minimising first-order flatness finds places of smaller curvature than SAM, which generalise better.
#     :experiment: two measures of flatness on a line; a small network on 400 digits, 30 % of the labels noise, three
#         seeds of start and batches, equal numbers of gradients
#     :controls: Adam, and SAM with the inner radius of GAM and with a larger one
#     :shown: in part: in every seed flatter than SAM of the same inner radius, and more accurate than Adam; SAM with a
#         radius of 0.3 is as flat and as accurate
