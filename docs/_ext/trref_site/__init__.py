"""The site's Sphinx extension: pages from the catalogue, code beside equations, commands run by the build."""

from docutils import nodes

from trref_site import directives, mathematics, pages

__all__ = ["setup"]


def _describe_thumbnails(app, doctree):
    """The gallery leaves the alternative text of its small pictures empty."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt") and "sphx_glr_" in image["uri"]:
            image["alt"] = f"First figure of {image['uri'].rpartition('sphx_glr_')[2].removesuffix('_thumb.png')}"


def setup(app):
    directives.setup(app)
    mathematics.setup(app)
    # after sphinx-gallery, whose pictures and run times the pages show
    app.connect("builder-inited", lambda app: pages.write(), priority=900)
    app.connect("doctree-read", _describe_thumbnails)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
