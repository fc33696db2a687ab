r"""What is cited: one file an entry, ``trref/references/<key>.bib``.

The files are BibTeX with one field a line, so that reading them needs no parser of BibTeX: a field's value stands
between the outer braces, and of LaTeX there are only accents and braces that protect capitals.
"""

import dataclasses
import functools
import pathlib
import re
import unicodedata

__all__ = ["Citation", "citation", "keys"]

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "references"
ACCENTS = {
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    '"': "\u0308",
    "~": "\u0303",
    "v": "\u030c",
    "c": "\u0327",
}
LETTERS = {
    r"\o": "ø",
    r"\O": "Ø",
    r"\l": "ł",
    r"\L": "Ł",
    r"\ss": "ß",
    r"\ae": "æ",
    r"\aa": "å",
    r"\i": "i",
    r"\&": "&",
}


@dataclasses.dataclass(frozen=True)
class Citation:
    """An entry of the bibliography; `arxiv` is None where it has no identifier there."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str | None
    bibtex: str


@functools.cache
def citation(key):
    """Return the entry with this key.

    Raises
    ------
    ValueError
        There is none, or it lacks a title, an author or a year.
    """
    path = FOLDER / f"{key}.bib"
    if not path.is_file():
        raise ValueError(
            f"key must name an entry of the bibliography: there is no references/{key}.bib"
        )
    text = path.read_text(encoding="utf-8")
    pairs = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", text, re.MULTILINE)
    fields = {name.lower(): value for name, value in pairs}
    if lacking := {"title", "author", "year"} - fields.keys():
        raise ValueError(f"references/{key}.bib lacks {', '.join(sorted(lacking))}")
    arxiv = (
        fields.get("eprint")
        if fields.get("archiveprefix", "").lower() == "arxiv"
        else None
    )
    authors = tuple(plain(name) for name in fields["author"].split(" and "))
    return Citation(
        key, plain(fields["title"]), authors, int(fields["year"]), arxiv, text
    )


def plain(latex):
    """Return text without LaTeX's accents and braces."""
    for command, letter in LETTERS.items():
        latex = re.sub(re.escape(command) + r"(?![A-Za-z])\s*", letter, latex)
    latex = re.sub(
        r"""\\(['`^"~]|[vc](?![A-Za-z]))\s*\{?\s*([A-Za-z])\}?""",
        lambda m: m[2] + ACCENTS[m[1]],
        latex,
    )
    return unicodedata.normalize(
        "NFC", re.sub(r"[{}]", "", latex).replace("--", "–").replace("~", " ")
    )


def keys():
    """Return the keys of all entries."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.bib")))
