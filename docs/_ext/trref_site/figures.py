"""Pictures: the scraper that saves each figure for both themes, and the map of limits."""

import html

__all__ = ["limits_map", "reset", "scraper"]


def reset(gallery_conf, fname):
    """Before each tutorial: warnings of the kind that hides a wrong number are errors."""
    import warnings

    warnings.simplefilter("error", RuntimeWarning)


def scraper(block, block_vars, gallery_conf):
    """Save the open figures of a tutorial's cell twice, with ink for the light and for the dark theme."""
    import pathlib

    import matplotlib.pyplot as plt

    from trref.experiments.figures import INKS, describe, recolour

    text = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
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
    plt.close("all")
    return "\n" + "\n".join(text) + "\n"


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
    rows, place = {}, {}
    for name in sorted(names, key=lambda n: (column[n], n.split(".")[0] not in family, n)):
        place[name] = rows.setdefault(column[name], 0)
        rows[column[name]] += 1
    wide, high, gap_x, gap_y = 8.2 * max(map(len, names)) + 24, 34, 190, 30
    width = (max(column.values()) + 1) * wide + max(column.values()) * gap_x + 8
    height = max(rows.values()) * (high + gap_y) + 8

    def corner(name):
        return 4 + column[name] * (wide + gap_x), 14 + place[name] * (high + gap_y)

    shapes = []
    for a, b, label in edges:
        (xa, ya), (xb, yb) = corner(a), corner(b)
        x0, y0, x1, y1 = xa, ya + high / 2, xb + wide + 6, yb + high / 2
        middle = (x0 + x1) / 2
        shapes.append(
            f'<path class="edge" d="M{x0:.0f} {y0:.0f} C{middle:.0f} {y0:.0f} {middle:.0f} {y1:.0f}'
            f' {x1:.0f} {y1:.0f}"/>'
        )
        shapes.append(f'<text class="condition" x="{x0 - 10:.0f}" y="{y0 - 6:.0f}">{html.escape(label)}</text>')
    for name in names:
        x, y = corner(name)
        shapes.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high}" rx="6"/>')
        shapes.append(
            f'<text x="{x + wide / 2:.0f}" y="{y + high / 2 + 5:.0f}" text-anchor="middle">{html.escape(name)}</text>'
        )
    described = html.escape("; ".join(f"{a} becomes {b} with {label}" for a, b, label in edges), quote=True)
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    return (
        f'<div class="limits-map" tabindex="0"><svg role="img" aria-label="{described}" width="{width:.0f}"'
        f' height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">{marker}{"".join(shapes)}</svg></div>'
    )
