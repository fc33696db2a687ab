"""The site's Sphinx extension: pages from the catalogue, code beside equations, commands run by the build."""

from docutils import nodes

from trref_site import directives, mathematics, pages

__all__ = ["setup"]


def _describe_thumbnails(app, doctree):
    """The gallery leaves the alternative text of its small pictures empty."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt") and "sphx_glr_" in image["uri"]:
            image["alt"] = f"First figure of {image['uri'].rpartition('sphx_glr_')[2].removesuffix('_thumb.png')}"


def _no_mail(app, doctree):
    """What looks like an address (pass@16) is none."""
    for reference in list(doctree.findall(nodes.reference)):
        if reference.get("refuri", "").startswith("mailto:"):
            reference.replace_self(reference.children)


def _wide_tutorials(app, page, template, context, doctree):
    """A tutorial's code needs the width that its few headings would take."""
    if page.startswith("auto_tutorials/") and "/plot_" in page:
        context["meta"] = {**(context.get("meta") or {}), "html_theme.sidebar_secondary.remove": ""}


def setup(app):
    directives.setup(app)
    mathematics.setup(app)
    # after sphinx-gallery, whose pictures and run times the pages show
    app.connect("builder-inited", lambda app: pages.write(), priority=900)
    app.connect("doctree-read", _describe_thumbnails)
    app.connect("doctree-read", _no_mail)
    app.connect("html-page-context", _wide_tutorials, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
