"""Start a method: python3 tools/new_method.py SLUG FAMILY.

Writes the module, its test and its tutorial in the agreed form. What it writes is a small working method (a smooth
absolute value) that keeps every contract, so that each step of replacing it can be checked: `trref check SLUG`.
"""

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAMILIES = (
    "policy tokens preferences distillation krylov optimization transport manifolds optimizers sharpness bilevel "
    "diffusion dynamics gradients domains federated continual datasampling adversarial attribution shift "
    "trustworthiness vision causal statistics physics theory"
).split()

MODULE = '''r"""NAME: the idea in three words.

The idea in a few plain sentences. Then the equations, each with a label that starts with the slug:

.. math::
    :label: LABEL-value

    L(x) = \\frac1N \\sum_i \\Big( \\sqrt{x_i^2 + w^2} - w \\Big)

.. math::
    :label: LABEL-gradient

    \\frac{\\partial L}{\\partial x_i} = \\frac1N \\frac{x_i}{\\sqrt{x_i^2 + w^2}}

**Where implementations differ.** What public code computes instead, and why it matters.

**Provenance.** Confirmed, partly confirmed or reconstructed: where the equations were read.

Author, Author and Author, *Title*, year, arXiv:0000.00000.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Method, Objective

__all__ = ["smooth_absolute"]

INPUTS = {"x": Input("N")}


def smooth_absolute(x, *, width=0.1):
    """One line that says what is computed.

    Parameters
    ----------
    x : array (N,)
    width : float
        Where the rounding begins, in (0, inf); 0.1 in the paper.

    Returns
    -------
    loss : scalar array
    gradient : array (N,)
        With respect to `x`.

    Raises
    ------
    ValueError
        Wrong shape, values that are not finite, `width` not positive.
    """
    sizes = validate.inputs(INPUTS, x)
    validate.interval("(0, inf)", width=width)
    N = sizes["N"]
    root = xp.sqrt(x * x + width**2)
    L = (root - width).sum() / N  # eq. LABEL-value
    dL = x / root / N  # eq. LABEL-gradient
    return L, dL


def _example(rng, size):
    return {"x": rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal(size)}


EDGES = {
    "at zero": lambda: {"x": xp.zeros(3)},
    "one entry": lambda: {"x": xp.array([-0.3])},
}

METHOD = Method(
    title="Title of the paper",
    key="KEY",
    arxiv=None,
    provenance="reconstructed",
    functions=(
        Objective(
            f=smooth_absolute,
            inputs=INPUTS,
            example=_example,
            edges=EDGES,
            wrt="x",
            settings={"default": {}, "probe": {"width": 0.3}},
        ),
    ),
)
'''

TEST = '''"""Theorems and limits of NAME."""

import numpy as np
import pytest

from trref.FAMILY.SLUG import smooth_absolute


def test_numbers_by_hand():
    """sqrt(0.3² + 0.4²) = 0.5."""
    loss, gradient = smooth_absolute(np.array([0.3]), width=0.4)
    assert loss == pytest.approx(0.1) and gradient == pytest.approx([0.6])


def test_a_narrow_width_is_the_absolute_value():
    x = np.random.default_rng(0).standard_normal(50)
    loss, gradient = smooth_absolute(x, width=1e-9)
    assert loss == pytest.approx(abs(x).mean(), rel=1e-7)
    assert np.allclose(gradient, np.sign(x) / 50)


def test_out_of_range():
    with pytest.raises(ValueError, match="width must lie in"):
        smooth_absolute(np.ones(2), width=0.0)
'''

TUTORIAL = '''"""
What the method does, as a headline
===================================

Two or three sentences: the question, and what will be seen.
"""

# %%
# The shape of it
# ---------------

import numpy as np

from trref.experiments.figures import use_style
from trref.FAMILY.SLUG import smooth_absolute

plt = use_style()
x = np.linspace(-1, 1, 201)
figure, axis = plt.subplots()
for width in (0.3, 0.1, 0.01):
    axis.plot(x, [smooth_absolute(np.array([v]), width=width)[0] for v in x], label=f"width {width:g}")
axis.set(xlabel="x", ylabel="value")
axis.legend()

# %%
# What the figure shows
# ---------------------
# The paper's claim, against its controls, as an assertion; if it does not show at this scale, say so.
#
# .. claim:: A narrow width gives the absolute value.
#     :experiment: one point, three widths
#     :controls: none; the limit is exact
#     :shown: yes, to 1 % at width 0.01

assert smooth_absolute(np.array([1.0]), width=0.01)[0] > 0.98, "a narrow width gives the absolute value"
'''


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slug", help="such as my_method: the name of the module")
    parser.add_argument("family", choices=FAMILIES)
    options = parser.parse_args()
    slug, family = options.slug, options.family
    if not slug.isidentifier() or slug != slug.lower():
        parser.error(f"the slug must be a lower-case Python name, not {slug!r}")
    names = {"SLUG": slug, "FAMILY": family, "LABEL": slug.replace("_", "-"), "NAME": slug.replace("_", " ")}
    files = {
        ROOT / "trref" / family / f"{slug}.py": MODULE,
        ROOT / "tests" / family / f"test_{slug}.py": TEST,
        ROOT / "tutorials" / family / f"plot_{slug}.py": TUTORIAL,
    }
    if existing := [str(path) for path in files if path.exists()]:
        sys.exit(f"already there: {', '.join(existing)}")
    package = ROOT / "trref" / family / "__init__.py"
    if not package.exists():
        package.parent.mkdir(parents=True)
        package.write_text(f'"""The family {family}: say in one line what belongs here."""\n', encoding="utf-8")
    for path, text in files.items():
        for placeholder, name in names.items():
            text = text.replace(placeholder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    print(f"next: trref check {slug}; then docs/add_a_method.rst, from 'Replace the placeholder' on")


if __name__ == "__main__":
    main()
