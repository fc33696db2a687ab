"""Pictures: the scraper that saves each figure for both themes, and the map of limits."""

from trref_site import rst

__all__ = ["limits_map", "ranks", "reset", "scraper"]


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


def ranks(edges):
    """How many arrows lie between each function and the last that it becomes: ``{name: number}``."""
    rank = dict.fromkeys((name for edge in edges for name in edge), 0)
    for _ in rank:
        for a, b in edges:
            if a != b:
                rank[a] = min(max(rank[a], rank[b] + 1), len(rank))
    return rank


def limits_map(edges, link):
    """Return RST that draws an arrow for each pair ``(from, to)``, grouped by the function that is reached."""
    order, sources = ranks(edges), {}
    for a, b in edges:
        sources.setdefault(b, {})[a] = None
    blocks = []
    for target in sorted(sources, key=lambda name: (order[name], name)):
        boxes = rst.indent(" ".join(link(a) for a in sorted(sources[target])))
        blocks.append(f".. container:: target\n\n{rst.indent(link(target))}\n\n.. container:: sources\n\n{boxes}\n")
    return ".. container:: limits-map\n\n" + rst.indent("\n".join(blocks))
