"""
Three ways to set all singular values to one
============================================

A polynomial that converges, one that does not mean to, and a rational function: how many steps does each need when the
smallest singular value is a trillionth of the largest?
"""

# %%
# Errors against steps
# --------------------
# Matrices of 12 × 8 with singular values spread evenly on a logarithmic scale, five random pairs of singular vectors.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.optimizers.polar_decomposition import newton_schulz, polynomials, qdwh, zolopd

plt = use_style()
conditions, seeds = (1e1, 1e4, 1e8, 1e12), range(5)
methods = {"cubic": 90, "muon": 30, "polar_express": 30}


def matrix(condition, seed):
    rng = np.random.default_rng(seed)
    P, V = (np.linalg.qr(rng.standard_normal((m, 8)))[0] for m in (12, 8))
    return (P * np.geomspace(1, 1 / condition, 8)) @ V.T


def off(U):
    return np.linalg.norm(U.T @ U - np.eye(8))


errors = {}
for condition in conditions:
    for seed in seeds:
        x = matrix(condition, seed)
        for name, steps in methods.items():
            path = [off(newton_schulz(x, coefficients=name, steps=k, eps=1e-30)) for k in range(1, steps + 1, 2)]
            errors.setdefault((name, condition), []).append(path)
        found = qdwh(x)
        errors.setdefault(("QDWH", condition), []).append(
            [*found.errors, *[found.errors[-1]] * (7 - len(found.errors))]
        )
        errors.setdefault(("ZOLO-PD", condition), []).append(zolopd(x).errors)

figure, axes = plt.subplots(1, 4, sharey=True, figsize=(10, 3.2))
for axis, condition in zip(axes, conditions, strict=True):
    for name, steps in methods.items():
        spread(axis, range(1, steps + 1, 2), errors[name, condition], name.replace("_", " "))
    spread(axis, range(7), errors["QDWH", condition], "QDWH")
    spread(axis, range(4), errors["ZOLO-PD", condition], "ZOLO-PD")
    axis.set(xlabel="step", yscale="log", title=f"condition {condition:.0e}", ylim=(1e-16, 10))
axes[0].set_ylabel("distance of UᵀU from I")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)


def steps_to(path, stride, target=1e-8):
    return next((1 + stride * k for k, e in enumerate(path) if e < target), None)


needed = {
    (name, condition): [steps_to(path, 2) for path in errors[name, condition]]
    for name in ("cubic", "polar_express")
    for condition in conditions
}
for key, value in needed.items():
    print(*key, "steps to 1e-8:", value)

# %%
# The cubic needs :math:`\log\kappa / \log 1.5`, or 5.7 steps a power of ten, and a few more at the end; Polar Express
# fewer, and after the best eight for its interval it goes on as the quintic does. QDWH needs six at most, whatever the
# condition, ZOLO-PD two, of eight factorisations each, and a cubic one. Muon's coefficients never arrive.

for condition in conditions:
    growth = np.log(condition) / np.log(1.5)
    assert all(growth < k < growth + 14 for k in needed["cubic", condition]), "the cubic pays for the condition"
    assert all(p < c for p, c in zip(needed["polar_express", condition], needed["cubic", condition], strict=True) if p)
    assert (np.array(errors["QDWH", condition])[:, -1] < 1e-14).all(), "six steps of QDWH are enough"
    assert (np.array(errors["ZOLO-PD", condition])[:, -2] < 1e-13).all(), "and two of ZOLO-PD"
    assert min(path[-1] for path in errors["muon", condition]) > 0.1, "Muon's iteration does not converge"

# %%
# What five steps do to a singular value
# --------------------------------------
# All iterations act on the singular values alone. Muon's is built to lift small ones at once into a band around 1.

s = np.geomspace(1e-4, 1, 500)
figure, axis = plt.subplots()
for name, colour in zip(("cubic", "quintic", "muon", "polar_express"), COLOURS, strict=False):
    value = s.copy()
    for a, b, c in polynomials(name, 5):
        value = a * value + b * value**3 + c * value**5
    axis.plot(s, value, color=colour, label=name.replace("_", " "))
    if name == "muon":
        band = value[s >= 0.01]
axis.set(xscale="log", xlabel="singular value over the norm", ylabel="after five steps")
axis.legend()
print(f"Muon's band from 0.01 on: {band.min():.4f} to {band.max():.4f}")
assert 0.68 < band.min() and band.max() < 1.14

# %%
# .. claim:: QDWH needs six steps whatever the condition, ZOLO-PD two; Muon's iteration trades convergence for speed.
#     :experiment: matrices with condition numbers from 10 to 10¹², five each
#     :controls: the cubic iteration, and Polar Express
#     :shown: yes: QDWH is orthonormal to rounding after six steps everywhere, while Muon's singular values stay between
#         0.68 and 1.14; polynomials pay for the logarithm of the condition
