"""One style for all figures: colour-blind safe, readable on light and dark pages."""

import math

__all__ = ["COLOURS", "INKS", "describe", "recolour", "spread", "use_style"]

COLOURS = ("#0072b2", "#c98500", "#009e73", "#cc79a7", "#3a9ad9", "#d55e00", "#8c8c8c")
"""The palette of Okabe and Ito, without its black and yellow, which vanish on one of the two backgrounds, and with its
orange and sky blue a little darker: each has a contrast of at least 3 with white and with near-black."""

INK = "#7d8590"  # one grey that can be read on white and on near-black
INKS = {"light": "#1f2328", "dark": "#e6edf3"}
"""Inks for pages that show a figure twice, once for each theme; see `recolour`."""


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
            # the first curves are the widest, so that none hides below another
            "axes.prop_cycle": cycler(color=COLOURS)
            + cycler(linewidth=(2.8, 2.4, 2.1, 1.8, 1.6, 1.4, 1.2)),
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "axes.grid": True,
            "grid.color": INK,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "image.cmap": "cividis",
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "font.size": 10.5,
            "svg.fonttype": "path",
            "svg.hashsalt": "trref",
        }
    )
    return plt


def recolour(figure, ink):
    """Give everything in a figure that is drawn in the style's ink another colour.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    ink : str
        One of `INKS`, for a page of that theme.
    """
    from matplotlib.colors import same_color

    inks = (INK, *INKS.values())

    def is_ink(colour):
        try:
            return any(same_color(colour, one) for one in inks)
        except (
            TypeError,
            ValueError,
        ):  # not one colour, but one for each of several points
            return False

    for axis in figure.get_axes():
        for side in (axis.xaxis, axis.yaxis):
            side.set_tick_params(
                which="both", color=ink, labelcolor=ink, grid_color=ink
            )
    for artist in figure.findobj():
        for part in (
            "color",
            "edgecolor",
            "facecolor",
            "markeredgecolor",
            "markerfacecolor",
        ):
            get, change = (
                getattr(artist, f"get_{part}", None),
                getattr(artist, f"set_{part}", None),
            )
            if get and change and is_ink(get()):
                change(ink)


def describe(figure):
    """Return one line of text about a figure, for those who can't see it: titles, axes and what is drawn."""
    parts = []
    for axis in figure.get_axes():
        words = axis.get_title()
        if axis.get_ylabel() or axis.get_xlabel():
            against = " against ".join(
                label for label in (axis.get_ylabel(), axis.get_xlabel()) if label
            )
            words = f"{words}: {against}" if words else against
        labels = [
            label
            for label in axis.get_legend_handles_labels()[1]
            if not label.startswith("_")
        ]
        if labels:
            words += f" ({', '.join(labels)})"
        if words:
            parts.append(words)
    return (
        " ".join(f"Figure: {'; '.join(dict.fromkeys(parts)) or 'pictures'}".split())
        .replace("$", "")
        .replace("\\", "")
    )


def spread(axis, x, runs, label, **style):
    """Draw the mean of several runs (R, len(x)) with a band of one standard error."""
    n = len(runs)
    mean = [sum(column) / n for column in zip(*runs, strict=True)]
    error = [
        math.sqrt(sum((v - m) ** 2 for v in column) / max(n - 1, 1) / n)
        for column, m in zip(zip(*runs, strict=True), mean, strict=True)
    ]
    (line,) = axis.plot(x, mean, label=label, **style)
    low, high = (
        [m - e for m, e in zip(mean, error, strict=True)],
        [m + e for m, e in zip(mean, error, strict=True)],
    )
    axis.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line
