"""Small plots as SVG inside the page: the theme's stylesheet colours them, and a thousand curves take a second."""

import dataclasses
import html
import math

import numpy as np

__all__ = ["Curve", "Heat", "Panel", "figure", "is_empty"]

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 60, 8, 22, 40
KEYS = 7  # colours of the stylesheet


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points, joined or not; curves of one label have one colour on all panels."""

    x: np.ndarray
    y: np.ndarray
    label: str
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    xlabel: str
    ylabel: str
    curves: tuple
    kind: str = "line"  # or "points", with a stem from zero each
    log: bool = False  # of the y axis

    @property
    def labels(self):
        return [(curve.label, curve.dashed) for curve in self.curves]


@dataclasses.dataclass(frozen=True)
class Heat:
    """A matrix of numbers, the positive ones in one colour and the negative in another; `most` is the strongest."""

    title: str
    xlabel: str
    ylabel: str
    values: np.ndarray
    most: float

    labels = ()


def is_empty(panel):
    """Whether a reader would see nothing: no finite point, or one alone."""
    if isinstance(panel, Heat):
        return not np.isfinite(panel.values).any()
    return sum(np.isfinite(curve.y).sum() for curve in panel.curves) < 2


def figure(panels, caption):
    """Return the HTML of panels beside each other, with one legend and a caption (HTML) below."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.labels))
    keys = {label: i for i, label in enumerate(labels)}
    drawn = "".join(_heat(p) if isinstance(p, Heat) else _panel(p, keys) for p in panels)
    legend = "".join(
        f'<li><svg class="key" viewBox="0 0 26 8" aria-hidden="true"><path class="k{keys[label] % KEYS}'
        f'{" dashed" if label[1] else ""}" d="M0 4H26"/></svg>{html.escape(label[0])}</li>'
        for label in labels
    )
    legend = f'<ul class="keys">{legend}</ul>' if len(labels) > 1 else ""
    return (
        f'<figure class="portrait"><div class="panels">{drawn}</div>{legend}<figcaption>{caption}</figcaption></figure>'
    )


def _log10(y):
    """Of a history that ends at zero, the last point is below every picture."""
    with np.errstate(divide="ignore"):
        return np.log10(y)


def _panel(panel, keys):
    xs = np.concatenate([curve.x for curve in panel.curves])
    xlow, xhigh = float(xs.min()), float(xs.max())
    if panel.kind == "points":
        xlow, xhigh = xlow - 0.5, xhigh + 0.5
    xlow, xhigh = (xlow - 0.5, xhigh + 0.5) if xlow == xhigh else (xlow, xhigh)
    change = _log10 if panel.log else (lambda y: y)
    ylow, yhigh = _range([change(curve.y) for curve in panel.curves], zero=panel.kind == "points")
    across = WIDTH - LEFT - RIGHT
    down = HEIGHT - TOP - BOTTOM

    def place(x, y):
        return across * (x - xlow) / (xhigh - xlow), down * (yhigh - np.clip(y, ylow - 9e9, yhigh + 9e9)) / (
            yhigh - ylow
        )

    xticks = [(place(v, 0)[0], _text(v, step)) for v, step in _ticks(xlow, xhigh, 6)]
    if panel.log:
        first, last = math.ceil(ylow - 1e-9), math.floor(yhigh + 1e-9)
        every = max(1, math.ceil((last - first + 1) / 5))
        yticks = [(place(0, v)[1], _power(v)) for v in range(first, last + 1, every)]
    else:
        yticks = [(place(0, v)[1], _text(v, step)) for v, step in _ticks(ylow, yhigh, 5)]
    axes = [f'<path class="grid" d="M{LEFT + x:.1f} {TOP}v{down}"/>' for x, _ in xticks]
    axes += [f'<path class="grid" d="M{LEFT} {TOP + y:.1f}h{across}"/>' for y, _ in yticks]
    axes += [f'<text x="{LEFT + x:.1f}" y="{TOP + down + 14}" text-anchor="middle">{text}</text>' for x, text in xticks]
    axes += [f'<text x="{LEFT - 5}" y="{TOP + y + 3.5:.1f}" text-anchor="end">{text}</text>' for y, text in yticks]
    marks = []
    for number, curve in enumerate(panel.curves):
        key = keys[curve.label, curve.dashed] % KEYS
        if panel.kind == "points":
            shift = (number - (len(panel.curves) - 1) / 2) * min(0.7 / len(panel.curves), 0.2)
            marks += [_stem(*place(x + shift, y), place(0, 0)[1], key) for x, y in zip(curve.x, curve.y, strict=True)]
        else:  # the first ones are the widest, so that none hides below another
            width = 3.4 - 2.0 * number / max(len(panel.curves) - 1, 1) if len(panel.curves) > 1 else 2.2
            with np.errstate(divide="ignore", invalid="ignore"):
                path = _path(*place(curve.x, change(curve.y)))
            kind = f"k{key} dashed" if curve.dashed else f"k{key}"
            marks.append(f'<path class="{kind}" style="stroke-width:{width:.1f}" d="{path}"/>')
    inside = f'<svg x="{LEFT}" y="{TOP}" width="{across}" height="{down}">{"".join(marks)}</svg>'
    return _svg(panel, "".join(axes) + inside + f'<path class="axis" d="M{LEFT} {TOP}v{down}h{across}"/>')


def _svg(panel, content, wide=WIDTH - LEFT - RIGHT):
    label = html.escape(f"{panel.title}: {panel.ylabel} against {panel.xlabel}", quote=True)
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    words = (
        f'<text class="title" x="{LEFT}" y="13"{_fits(panel.title, WIDTH - LEFT)}>{html.escape(panel.title)}</text>'
        f'<text x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle"{_fits(panel.xlabel, WIDTH - LEFT)}>'
        f"{html.escape(panel.xlabel)}</text>"
        f'<text transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle"'
        f"{_fits(panel.ylabel, HEIGHT - TOP)}>{html.escape(panel.ylabel)}</text>"
    )
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{content}{words}</svg>'


def _fits(words, room):
    """Long words are drawn narrower: no letter is wider than this on average."""
    return f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if 6.2 * len(words) > room else ""


def _heat(panel):
    rows, columns = panel.values.shape
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    side = min(across / columns, down / rows)
    wide = side * columns if side * columns > across / 3 else across / 2
    cells = []
    for i, row in enumerate(panel.values):
        for j, value in enumerate(row):
            strength = min(abs(value) / (panel.most or 1), 1) if math.isfinite(value) else 0
            place = f'x="{LEFT + j * wide / columns:.1f}" y="{TOP + i * down / rows:.1f}"'
            size = f'width="{wide / columns - 1:.1f}" height="{down / rows - 1:.1f}"'
            kind = "low" if value < 0 else "high"
            cells.append(
                f'<rect class="{kind}" {place} {size} fill-opacity="{strength:.2f}"><title>{value:.3g}</title></rect>'
            )
    frame = f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{wide:.1f}" height="{down}"/>'
    return _svg(panel, frame + "".join(cells), wide)


def _range(curves, zero):
    """Limits that show the first curve whole, and of the others what is not far beyond it."""
    finite = [curve[np.isfinite(curve)] for curve in curves]
    finite = [curve for curve in finite if len(curve)]
    low, high = float(finite[0].min()), float(finite[0].max())
    size = max(float(abs(curve).max()) for curve in finite)
    span = high - low if high - low > 1e-3 * size else 0  # what hardly moves sets no limits to the others
    for curve in finite[1:]:
        a, b = float(curve.min()), float(curve.max())
        low = a if span == 0 or a > low - 1.5 * span else min(low, finite[0].min() - 1.5 * span)
        high = b if span == 0 or b < high + 1.5 * span else max(high, finite[0].max() + 1.5 * span)
        low, high = min(low, float(finite[0].min())), max(high, float(finite[0].max()))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        middle, size = (low + high) / 2, max(abs(low), abs(high), 1e-300)
        return middle - 0.5 * size, middle + 0.5 * size
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _ticks(low, high, most):
    """Round numbers between two limits, with their distance."""
    raw = (high - low) / most
    unit = 10 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [(k * step, step) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _text(value, step):
    size = max(abs(value), step)
    if value and (size >= 1e5 or step < 1e-3):
        mantissa, power = f"{value:.{max(math.floor(math.log10(abs(value) / step) + 1e-9), 0)}e}".split("e")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−") if value else "0"


def _power(exponent):
    return "1" if exponent == 0 else f"1e{exponent}".replace("-", "−")


def _path(x, y):
    words, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if math.isfinite(b):
            words.append(f"{pen}{a:.1f} {b:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)


def _stem(x, y, zero, key):
    if not math.isfinite(y):
        return ""
    dot = f'<circle class="k{key}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return f'<path class="k{key}" d="M{x:.1f} {zero:.1f}V{y:.1f}"/>{dot}'
