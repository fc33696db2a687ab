"""MathJax from files that ship with the site: the one bundle needed, of the package sphinx-mathjax-offline."""

import importlib.util
import pathlib
import shutil

from sphinx.errors import ConfigError

BUNDLE = "tex-svg-full.js"  # SVG output draws its glyphs itself: no fonts to load, from the file system either

__all__ = ["BUNDLE", "bundle", "setup"]


def bundle():
    """Return the path of the bundle, or raise a ConfigError that says what to do."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    path = pathlib.Path(found.origin).parent / "static" / "mathjax" / BUNDLE if found else None
    if path is None or not path.is_file():
        raise ConfigError(
            f"MathJax's {BUNDLE} is missing; it comes with the package sphinx-mathjax-offline of the extra 'docs':"
            " python3 tools/docs.py installs it"
        )
    return path


def _copy(app, exception):
    if exception is None and app.builder.format == "html":
        target = pathlib.Path(app.outdir) / "_static" / "mathjax" / BUNDLE
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle(), target)


def setup(app):
    bundle()
    app.config.mathjax_path = f"mathjax/{BUNDLE}"
    app.connect("build-finished", _copy)
