"""Directives and roles of this site."""

import html
import os
import shlex
import subprocess
import sys
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from trref import catalog
from trref_site import ledgers, listings, portraits, source, tutorials

logger = logging.getLogger(__name__)


def raw(text):
    return nodes.raw("", text, format="html")


class CodeBeside(SphinxDirective):
    """``.. code-beside:: module`` with ``:equations: label label``."""

    required_arguments = 1
    option_spec: ClassVar = {"equations": directives.unchanged_required}

    def run(self):
        module = source.read(self.arguments[0])
        self.env.note_dependency(str(module.path))
        return [raw(listings.beside(module, self.options["equations"].split()))]


class ModuleListing(SphinxDirective):
    """``.. module-listing:: module``: its code, with the equations' numbers in the margin."""

    required_arguments = 1

    def run(self):
        module = source.read(self.arguments[0])
        self.env.note_dependency(str(module.path))
        return [raw(listings.listing(module))]


class Portrait(SphinxDirective):
    """``.. portrait:: ppo.clipped_surrogate``: the picture that is made from a record."""

    required_arguments = 1

    def run(self):
        return [raw(portraits.portrait(catalog.find(self.arguments[0])))]


class Fold(SphinxDirective):
    """``.. fold:: title``: content that opens with a click."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self):
        content = self.parse_content_to_nodes()
        opening = f'<details class="fold"><summary>{html.escape(self.arguments[0])}</summary>'
        return [raw(opening), *content, raw("</details>")]


class Collected(SphinxDirective):
    """``.. collected:: claims``: one of the contents of `ledgers`."""

    required_arguments = 1

    def run(self):
        return self.parse_text_to_nodes(ledgers.CONTENTS[self.arguments[0]]())


class Claim(SphinxDirective):
    """``.. claim:: the paper's words`` with experiment, controls, and whether it showed, in a tutorial."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False
    option_spec: ClassVar = {name: directives.unchanged for name in ("experiment", "controls", "shown")}

    def run(self):
        if not self.options.get("shown", "").startswith(("yes", "no", "in part")):
            raise self.error("a claim says whether it shows: ':shown: yes…', 'no…' or 'in part…'")
        claim = " ".join(self.arguments[0].split())
        fields = [f":{name}: {self.options[name]}" for name in self.option_spec if name in self.options]
        box = nodes.admonition(classes=["claim"])
        box += nodes.title("", "The claim, and what this page shows")
        box += self.parse_text_to_nodes(f"{claim}\n\n" + "\n".join(" ".join(f.split()) for f in fields))
        return [box]


class Command(SphinxDirective):
    """``.. command:: trref verify …``: runs a command while the site is built, and shows it with its output.

    ``:status:`` is the exit status that it must have (0); ``:needs:`` a package without which it is left out.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {
        "status": directives.nonnegative_int,
        "needs": directives.unchanged,
        "folder": directives.unchanged,
    }

    def run(self):
        import importlib.util

        shown = " ".join(self.arguments[0].split())
        needs = self.options.get("needs")
        if needs and importlib.util.find_spec(needs) is None:
            logger.info("without %s the output of '%s' is left out", needs, shown)
            note = nodes.note()
            note += self.parse_text_to_nodes(f"{needs} was not installed when this page was built: no output here.")
            return [self._block(f"$ {shown}"), note]
        words = shlex.split(shown)
        command = {"trref": [sys.executable, "-m", "trref.cli"], "pytest": [sys.executable, "-m", "pytest"]}[words[0]]
        if words[0] == "pytest":
            command += ["-p", "no:cacheprovider", "--color=no", "-c", os.devnull, "--rootdir=."]
        folder = tutorials.ROOT / self.options.get("folder", ".")
        environment = {**os.environ, "PYTHONPATH": str(tutorials.ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "88"}
        environment.pop("PYTHONWARNINGS", None)
        result = subprocess.run(
            [*command, *words[1:]], cwd=folder, capture_output=True, text=True, env=environment, check=False
        )
        if result.returncode != self.options.get("status", 0):
            raise self.error(
                f"'{shown}' ended with status {result.returncode}, not {self.options.get('status', 0)}:\n"
                f"{result.stdout}{result.stderr}"
            )
        output = (result.stdout + result.stderr).replace(str(tutorials.ROOT), "…").rstrip()
        status = [f"$ echo $?\n{result.returncode}"] if words[0] == "trref" else []
        return [self._block("\n".join([f"$ {shown}", output, *status]))]

    def _block(self, text):
        block = nodes.literal_block(text, text, language="console", classes=["terminal"])
        return block


class Badge(SphinxRole):
    """``:provenance:`confirmed```, ``:shown-yes:`yes```: a word in a colour of its own."""

    def run(self):
        classes = [self.name] if self.name.startswith("shown") else [self.name, f"{self.name}-{self.text}"]
        return [nodes.inline(self.text, self.text, classes=classes)], []


class Row(SphinxRole):
    """``:row:`name```: the anchor of a table's row, and a link to it."""

    def run(self):
        name = nodes.make_id(f"row-{self.text}")
        words = html.escape(f"Link to the row {self.text}", quote=True)
        return [raw(f'<a class="row-link" id="{name}" href="#{name}" aria-label="{words}" title="{words}">#</a> ')], []


def setup(app):
    app.add_directive("code-beside", CodeBeside)
    app.add_directive("module-listing", ModuleListing)
    app.add_directive("portrait", Portrait)
    app.add_directive("fold", Fold)
    app.add_directive("collected", Collected)
    app.add_directive("claim", Claim)
    app.add_directive("command", Command)
    app.add_role("row", Row())
    for name in ("provenance", "verdict", "shown-yes", "shown-part", "shown-no"):
        app.add_role(name, Badge())
