"""What sphinx-gallery leaves as reStructuredText in the notebooks: claims, and links to other tutorials."""

import functools
import re

from trref_site import tutorials

__all__ = ["install", "markdown"]

CLAIM = re.compile(r"^\.\. claim::.*\n(?:(?:[ ]+.*)?\n)*", re.MULTILINE)


def markdown(text):
    """Claims as a list, links to documents as the titles of these, code as Markdown has it."""
    text = re.sub(r"``([^`]+)``", r"`\1`", CLAIM.sub(_claim, text))
    text = re.sub(r":doc:`([^`<]+?)\s*<[^`>]+>`", r"\1", text)
    return re.sub(r":doc:`([^`]+)`", lambda match: _title_of(match[1]), text)


def _claim(match):
    (claim,) = tutorials.claims_of(match[0].splitlines())
    items = "".join(f"- {name}: {words}\n" for name, words in claim.options.items())
    return f"**The claim, and what this page shows.** {claim.text}\n\n{items}\n"


def _title_of(document):
    slug = document.rpartition("/")[2]
    path = next(iter(tutorials.SCRIPTS.glob(f"*/{slug}.py")), None)
    return f"*{tutorials.read_file(path).title}*" if path else f"*{slug}*"


def install():
    """Let sphinx-gallery, in this process, pass its texts through `markdown` first."""
    from sphinx_gallery import notebook

    convert = notebook.rst2md
    if getattr(convert, "__wrapped__", None):
        return

    @functools.wraps(convert)
    def rst2md(text, *arguments):
        return convert(markdown(text), *arguments)

    notebook.rst2md = rst2md
