"""A picture of an implementation against the catalogue's function: both along one input, as SVG for a notebook."""

import html

import numpy as np

from trref import catalog
from trref.conformance import trials

__all__ = ["Slice", "draw", "slices"]

POINTS, REACH, TRIED = 41, 1.5, 6
WIDTH, HEIGHT, EDGE = 420, 210, 36
STROKE = 'fill="none" stroke-width="2"'


class Slice:
    """Both functions' values along one entry of an input."""

    def __init__(self, label, axis, ours, theirs):
        self.label, self.axis, self.ours, self.theirs = label, axis, ours, theirs

    @property
    def difference(self):
        return float(np.nanmax(abs(self.ours - self.theirs), initial=0.0))


def slices(record, trial, ask):
    """Yield slices through a trial's inputs.

    Parameters
    ----------
    record : Record
    trial : Trial
    ask : callable
        ``ask(trial) -> Answer`` of the implementation.
    """
    part = next(iter(trial.expected))
    if not isinstance(
        record, catalog.Objective | catalog.Transform | catalog.Estimator
    ):
        return
    tried = 0
    for name, spec in record.inputs.items():
        array = trial.inputs.get(name)
        if spec.kind not in ("real", "log_prob") or not isinstance(array, np.ndarray):
            continue
        for index in np.ndindex(array.shape):
            if tried == TRIED:
                return
            tried += 1
            axis = array[index] + np.linspace(-REACH, REACH, POINTS)
            both = [_both(record, trial, name, index, x, part, ask) for x in axis]
            where = ", ".join(map(str, index))
            label = f"{part} along {name}[{where}]" if where else f"{part} along {name}"
            ours, theirs = np.array(both).T
            if np.isfinite(ours).sum() > 2:
                yield Slice(label, axis, ours, theirs)


def _both(record, trial, name, index, x, part, ask):
    """The two values at one point; of arrays, their first entries. NaN where it is refused."""
    moved = trial.inputs[name].copy()
    moved[index] = x
    inputs = {**trial.inputs, name: moved}
    try:
        expected = trials.reference(record, inputs, trial.hyper)
    except (ValueError, TypeError, ArithmeticError):
        return np.nan, np.nan
    found = (
        ask(trials.Trial("", trial.setting, inputs, trial.hyper, expected)).parts or {}
    ).get(part)
    theirs = np.nan if found is None or not found.size else float(found.flat[0])
    return float(np.asarray(expected[part]).flat[0]), theirs


def draw(shown):
    """Return a slice as SVG: the catalogue's function as a line, the implementation dashed."""
    values = np.concatenate([shown.ours, shown.theirs])
    values = values[np.isfinite(values)]
    low, high = values.min(), values.max()
    spread = (high - low) or 1.0

    def line(ys):
        xs = EDGE + (shown.axis - shown.axis[0]) / (shown.axis[-1] - shown.axis[0]) * (
            WIDTH - 2 * EDGE
        )
        heights = HEIGHT - EDGE - (ys - low) / spread * (HEIGHT - 2 * EDGE)
        return " ".join(
            f"{x:.1f},{y:.1f}"
            for x, y in zip(xs, heights, strict=True)
            if np.isfinite(y)
        )

    def text(x, y, words, anchor="middle"):
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="11">{html.escape(words)}</text>'

    middle, bottom = WIDTH / 2, HEIGHT - 8
    return "".join(
        [
            f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" fill="currentColor" font-family="sans-serif">',
            f"<title>{html.escape(shown.label)}: the catalogue's function and the implementation</title>",
            text(middle, 14, shown.label),
            f'<polyline {STROKE} stroke="#2a6fb0" points="{line(shown.ours)}"/>',
            f'<polyline {STROKE} stroke="#c2410c" stroke-dasharray="5 4" points="{line(shown.theirs)}"/>',
            text(EDGE, bottom, f"{shown.axis[0]:.3g}"),
            text(WIDTH - EDGE, bottom, f"{shown.axis[-1]:.3g}"),
            text(4, EDGE, f"{high:.3g}", "start"),
            text(4, HEIGHT - EDGE, f"{low:.3g}", "start"),
            text(middle, bottom, "line: the catalogue; dashes: the implementation"),
            "</svg>",
        ]
    )
