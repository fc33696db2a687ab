"""Small helpers that write reStructuredText."""

import re
import textwrap

__all__ = ["assigned", "bullets", "code", "heading", "indent", "inline", "number", "row", "table"]

CHARACTERS = "=-~^"


def heading(text, level=0):
    return f"{text}\n{CHARACTERS[level] * max(len(text), 4)}\n"


def indent(text, by=4):
    return textwrap.indent(text, " " * by)


def inline(text):
    """Plain text that RST must not read as markup."""
    text = re.sub(r"([\\*`|])", r"\\\1", str(text))
    return re.sub(r"_(?!\w)", r"\\_", text)  # a word that ends so would be a reference


def code(text):
    return f"``{text}``"


def assigned(values):
    """``name = value``, one after the other."""
    return ", ".join(code(f"{k} = {number(v) if isinstance(v, float) else repr(v)}") for k, v in values.items())


def number(value, digits=6):
    """A float as a person writes it: 0.3, 2e-4, 1e14."""
    text = f"{value:.{digits}g}"
    if 0 < abs(value) < 1e-3 and "e" not in text:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{float(mantissa):g}e{exponent}"
    return re.sub(r"e\+?(-?)0*", r"e\1", text)


def row(identifier):
    """A mark in the first cell of a row, by which others can link to it."""
    return f":row:`{identifier}`"


def bullets(items):
    return "\n".join("- " + indent(item, 2).lstrip() for item in items) + "\n"


def table(header, rows, *, widths=None, classes=""):
    """A list-table; cells are RST."""
    lines = [".. list-table::", "    :header-rows: 1"]
    if widths:
        lines.append(f"    :widths: {' '.join(map(str, widths))}")
    if classes:
        lines.append(f"    :class: {classes}")
    lines.append("")
    for row in (header, *rows):
        for i, cell in enumerate(row):
            mark = "    * - " if i == 0 else "      - "
            body = indent(str(cell), 8).lstrip() if str(cell).strip() else ""
            lines.append((mark + body).rstrip())
    return "\n".join(lines) + "\n"
