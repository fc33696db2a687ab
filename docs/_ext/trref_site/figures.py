"""Pictures: the scraper that saves each figure for both themes, and the map of limits."""

import html

__all__ = ["limits_map", "reset", "scraper"]


def reset(gallery_conf, fname, when):
    """Before each tutorial: warnings of the kind that hides a wrong number are errors. After it: no figure is left."""
    import warnings

    import matplotlib.pyplot as plt

    if when == "before":
        warnings.simplefilter("error", RuntimeWarning)
    elif plt.get_fignums():
        raise RuntimeError(f"{fname}: a figure has axes in which nothing was drawn")


def scraper(block, block_vars, gallery_conf):
    """Save the open figures of a tutorial's cell twice, with ink for the light and for the dark theme.

    A figure with empty axes stays open: a later cell finishes it, and there it is shown.
    """
    import pathlib

    import matplotlib.pyplot as plt

    from trref.experiments.figures import INKS, describe, recolour

    text = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        if not all(_drawn(axis) for axis in figure.get_axes()):
            continue
        light = pathlib.Path(next(block_vars["image_path_iterator"]))
        paths = {"light": light, "dark": light.with_name(f"{light.stem}_dark.png")}
        for theme, path in paths.items():
            recolour(figure, INKS[theme])
            figure.savefig(path, dpi=160)
            relative = path.relative_to(gallery_conf["src_dir"]).as_posix()
            width = round(100 * figure.get_figwidth())
            text.append(
                f".. image:: /{relative}\n    :alt: {describe(figure)}\n    :class: sphx-glr-single-img only-{theme}\n"
                f"    :width: {width}px\n"
            )
        plt.close(figure)
    return "\n" + "\n".join(text) + "\n"


def _drawn(axis):
    return axis.has_data() or axis.texts or axis.tables or not (axis.axison and axis.get_visible())


def limits_map(edges, family):
    """Return an SVG with an arrow for each declared limit: ``(from, to, label)``.

    A function stands one column to the right of those that it becomes; targets are at the left.
    """
    names = list(dict.fromkeys(n for a, b, _ in edges for n in (b, a)))
    column = dict.fromkeys(names, 0)
    for _ in names:
        for a, b, _label in edges:
            if a != b:
                column[a] = min(max(column[a], column[b] + 1), len(names))
    leaving = {name: {} for name in names}
    for a, b, label in edges:
        leaving[a].setdefault(b, []).append(label)
    leaving = {a: [(b, _joined(labels)) for b, labels in to.items()] for a, to in leaving.items()}
    tall = {name: max(34, 20 * len(leaving[name]) + 6) for name in names}
    columns = range(max(column.values()) + 1)
    wide = [8.2 * max(len(n) for n in names if column[n] == c) + 22 for c in columns]
    left = [4.0]
    for c in columns:
        longest = max((len(label) for a in names if column[a] == c + 1 for _, label in leaving[a]), default=0)
        left.append(left[-1] + wide[c] + 7.3 * longest + 60)
    corner, below = {}, dict.fromkeys(columns, 14)
    for name in sorted(names, key=lambda n: (column[n], n)):
        corner[name] = left[column[name]], below[column[name]]
        below[column[name]] += tall[name] + 26

    curves, words = [], []
    for a in names:
        for k, (b, label) in enumerate(leaving[a]):
            x, y = corner[a][0], corner[a][1] + tall[a] * (k + 1) / (len(leaving[a]) + 1)
            words.append(f'<text class="condition" x="{x - 8:.0f}" y="{y - 4:.0f}">{html.escape(label)}</text>')
            path = f"M{x:.0f} {y:.0f}"
            for c in range(column[a] - 1, column[b], -1):  # past the boxes of the columns between
                path += _bend(x, y, left[c] + wide[c], below[c]) + f" H{left[c]:.0f}"
                x, y = left[c], below[c]
                below[c] += 22
            path += _bend(x, y, corner[b][0] + wide[column[b]] + 6, corner[b][1] + tall[b] / 2)
            curves.append(f'<path class="edge" d="{path}"/>')
    width, height = left[-2] + wide[-1] + 4, max(below.values())
    shapes = curves + words
    for name in names:
        (x, y), high = corner[name], tall[name]
        w = wide[column[name]]
        middle = f'x="{x + w / 2:.0f}" y="{y + high / 2 + 5:.0f}"'
        shapes.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{high}" rx="6"/>')
        shapes.append(f'<text {middle} text-anchor="middle">{html.escape(name)}</text>')
    described = html.escape("; ".join(f"{a} becomes {b} with {label}" for a, b, label in edges), quote=True)
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    return (
        f'<div class="limits-map" tabindex="0"><svg role="img" aria-label="{described}" width="{width:.0f}"'
        f' height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">{marker}{"".join(shapes)}</svg></div>'
    )


def _joined(labels):
    """One label for several limits between the same two functions."""
    return " or ".join(labels) if sum(map(len, labels)) < 30 else f"in {len(labels)} ways" if labels[1:] else labels[0]


def _bend(x0, y0, x1, y1):
    middle = (x0 + x1) / 2
    return f" C{middle:.0f} {y0:.0f} {middle:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
