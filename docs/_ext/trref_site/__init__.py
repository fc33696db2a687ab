"""The site's Sphinx extension: pages from the catalogue, code beside equations, commands run by the build."""

import html
import pathlib
import re

from docutils import nodes

from trref_site import courses, directives, mathematics, names, pages

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


def _describe(app, page, template, context, doctree):
    """The first sentences of a page are its description for search engines."""
    words = next((p.astext() for p in doctree.findall(nodes.paragraph) if len(p.astext()) > 20), "") if doctree else ""
    words = " ".join(words.split())
    if words:
        text = html.escape(words if len(words) <= 160 else words[:159].rpartition(" ")[0] + "…", quote=True)
        context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{text}" />'


def _needs_names(app, page, template, context, doctree):
    if page in ("index", "search", "methods/index"):
        app.add_js_file("names.js")


def _write_names(app, exception):
    if exception is None and app.builder.format == "html":
        path = pathlib.Path(app.outdir) / "_static" / "names.js"
        path.write_text(names.script(), encoding="utf-8")


def _write_sitemap(app, exception):
    """A sitemap holds whole addresses: it is written where TRREF_SITE_URL (html_baseurl) says where the site is."""
    if exception is None and app.config.html_baseurl and app.builder.format == "html":
        pages = sorted(str(p.relative_to(app.outdir)) for p in pathlib.Path(app.outdir).rglob("*.html"))
        text = names.sitemap(app.config.html_baseurl, [p for p in pages if not p.startswith("_")])
        (pathlib.Path(app.outdir) / "sitemap.xml").write_text(text, encoding="utf-8")


def _links_of_tutorial(app, docname, content):
    """A tutorial says below its title which method and which equations it is about, and where the exercises are."""
    match = re.fullmatch(r"auto_tutorials/(\w+)/plot_(\w+)", docname)
    if match and (words := pages.links_of_tutorial(*match.groups())):
        title = re.search(r"^=+\n\n", content[0], re.MULTILINE)
        if title:
            content[0] = content[0][: title.end()] + words + "\n\n" + content[0][title.end() :]


def _only_what_is_written(app, docname, content):
    """The courses stand in the contents once there are some."""
    if docname == "index":
        for name in ("courses/index", "teach"):
            if not (pathlib.Path(app.srcdir) / f"{name}.rst").is_file():
                content[0] = content[0].replace(f"    {name}\n", "")


def setup(app):
    directives.setup(app)
    courses.setup(app)
    mathematics.setup(app)
    # after sphinx-gallery, whose pictures and run times the pages show
    app.connect("builder-inited", lambda app: pages.write(), priority=900)
    app.connect("doctree-read", _describe_thumbnails)
    app.connect("doctree-read", _no_mail)
    app.connect("source-read", _links_of_tutorial)
    app.connect("source-read", _only_what_is_written)
    app.connect("html-page-context", _wide_tutorials, priority=400)
    app.connect("html-page-context", _describe)
    app.connect("html-page-context", _needs_names)
    app.connect("build-finished", _write_names)
    app.connect("build-finished", _write_sitemap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
