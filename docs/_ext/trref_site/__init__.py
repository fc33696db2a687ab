"""The site's Sphinx extension: pages from the catalogue, code beside equations, commands run by the build."""

from trref_site import directives, mathematics, pages

__all__ = ["setup"]


def setup(app):
    directives.setup(app)
    mathematics.setup(app)
    # after sphinx-gallery, whose pictures and run times the pages show
    app.connect("builder-inited", lambda app: pages.write(), priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
