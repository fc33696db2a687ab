"""Pictures: the scraper that saves each figure for both themes, and the map of limits."""

import textwrap

from trref_site import notebooks, rst

__all__ = ["fit_titles", "limits_map", "reached", "reset", "scraper", "whole"]


def reset(gallery_conf, fname, when):
    """Before each tutorial: warnings of the kind that hides a wrong number are errors. After it: no figure is left."""
    import warnings

    import matplotlib.pyplot as plt

    notebooks.install()
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
        fit_titles(figure)
        box = whole(figure)
        light = pathlib.Path(next(block_vars["image_path_iterator"]))
        paths = {"light": light, "dark": light.with_name(f"{light.stem}_dark.png")}
        for theme, path in paths.items():
            recolour(figure, INKS[theme])
            figure.savefig(path, dpi=160, bbox_inches=box)
            relative = path.relative_to(gallery_conf["src_dir"]).as_posix()
            width = round(100 * (box.width if box else figure.get_figwidth()))
            text.append(
                f".. image:: /{relative}\n    :alt: {describe(figure)}\n    :class: sphx-glr-single-img only-{theme}\n"
                f"    :width: {width}px\n"
            )
        plt.close(figure)
    return "\n" + "\n".join(text) + "\n"


def fit_titles(figure):
    """Break titles that are wider than the place of their axes, which equal scales may leave narrow."""
    renderer = figure.canvas.get_renderer()
    for axis in figure.get_axes():
        place, title = axis.get_subplotspec(), axis.title
        if place is None or not title.get_text() or "\n" in title.get_text():
            continue
        columns = place.get_gridspec().ncols
        room = 0.85 * figure.bbox.width * len(place.colspan) / columns
        width = title.get_window_extent(renderer).width
        if width > room:
            letters = int(len(title.get_text()) * room / width)
            title.set_text(textwrap.fill(title.get_text(), max(letters, 8), break_long_words=False))


def whole(figure):
    """What a figure with equal scales takes, in inches: the layout leaves it no room for titles. None for others."""
    if all(axis.get_aspect() == "auto" for axis in figure.get_axes()):
        return None
    figure.draw_without_rendering()
    return figure.get_tightbbox().padded(0.05)


def _drawn(axis):
    return axis.has_data() or axis.texts or axis.tables or not (axis.axison and axis.get_visible())


def reached(edges):
    """Return who becomes what, ``{function: those that become it}``, the most often reached first."""
    sources = {}
    for a, b in edges:
        sources.setdefault(b, set()).add(a)
    return {b: sorted(sources[b]) for b in sorted(sources, key=lambda b: (-len(sources[b]), b))}


def limits_map(sources, link):
    """Return RST that draws an arrow to each function from those that become it."""
    blocks = []
    for target, names in sources.items():
        boxes = rst.indent(" ".join(map(link, names)))
        blocks.append(f".. container:: target\n\n{rst.indent(link(target))}\n\n.. container:: sources\n\n{boxes}\n")
    return ".. container:: limits-map\n\n" + rst.indent("\n".join(blocks))
