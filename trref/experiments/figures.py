"""One style for all figures: colour-blind safe, readable on light and dark pages."""

import math

__all__ = ["COLOURS", "spread", "use_style"]

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c")
"""The palette of Okabe and Ito, without its black and yellow, which vanish on one of the two backgrounds."""

INK = "#7d8590"  # one grey that can be read on white and on near-black


def use_style():
    """Set Matplotlib's defaults and return ``matplotlib.pyplot``."""
    import matplotlib.pyplot as plt
    from cycler import cycler

    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "axes.grid": True,
            "grid.color": INK,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "font.size": 10.5,
            "svg.fonttype": "path",
            "svg.hashsalt": "trref",
        }
    )
    return plt


def spread(axis, x, runs, label, **style):
    """Draw the mean of several runs (R, len(x)) with a band of one standard error."""
    n = len(runs)
    mean = [sum(column) / n for column in zip(*runs, strict=True)]
    error = [
        math.sqrt(sum((v - m) ** 2 for v in column) / max(n - 1, 1) / n)
        for column, m in zip(zip(*runs, strict=True), mean, strict=True)
    ]
    (line,) = axis.plot(x, mean, label=label, **style)
    low, high = [m - e for m, e in zip(mean, error, strict=True)], [m + e for m, e in zip(mean, error, strict=True)]
    axis.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line
