"""Roles of the syllabi: links to methods, functions and tutorials, which say where a page is still missing."""

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole

from trref import catalog
from trref_site import tutorials

__all__ = ["setup"]

MISSING = " (its page is still missing)"


class Method(SphinxRole):
    """``:method:`cg```"""

    def run(self):
        family = next((f for f, slug in catalog.places() if slug == self.text), None)
        if family is None:
            return _missing(self.text)
        return _document(self, f"/methods/{family}/{self.text}", self.text)


class Exercise(SphinxRole):
    """``:exercise:`cg.cg```"""

    def run(self):
        slug = self.text.partition(".")[0]
        family = next((f for f, s in catalog.places() if s == slug), None)
        if family is None:
            return _missing(self.text)
        return _document(self, f"/methods/{family}/{slug}", self.text)


class Tutorial(SphinxRole):
    """``:tutorial:`krylov/plot_cg```"""

    def run(self):
        if not (tutorials.SCRIPTS / f"{self.text}.py").is_file():
            return _missing(self.text)
        return _document(self, f"/auto_tutorials/{self.text}", self.text)


def _missing(text):
    return [nodes.literal(text, text), nodes.Text(MISSING)], []


def _document(role, document, text):
    """A link to a document, resolved when all are read."""
    reference = addnodes.pending_xref(
        "", refdomain="std", reftype="doc", refexplicit=True, refwarn=True, reftarget=document, refdoc=role.env.docname
    )
    reference += nodes.literal(text, text)
    return [reference], []


def setup(app):
    for name, role in {"method": Method, "exercise": Exercise, "tutorial": Tutorial}.items():
        app.add_role(name, role())
