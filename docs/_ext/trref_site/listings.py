"""Code as HTML, line by line, with links between lines and equations."""

import functools
import html
import re

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from trref_site import source

__all__ = ["beside", "listing"]

TAG = re.compile(r'\s*<span class="c1"># eq\.[^<]*</span>')  # the page shows by colour what the tag says
SHORT = 10  # a function of so few lines is shown whole
CONTEXT = 2


@functools.cache
def _highlighted(path, text):
    shown = highlight(text, PythonLexer(stripnl=False, ensurenl=False), HtmlFormatter(nowrap=True))
    return shown.split("\n")


def _lines_of(module):
    return _highlighted(str(module.path), "\n".join(module.lines))


def _line(number, text, *, classes=(), href=None, anchor=None, gutter="", attributes=""):
    shown = f'<a class="ln" href="{href}" tabindex="-1">{number}</a>' if href else f'<span class="ln">{number}</span>'
    identifier = f' id="{anchor}"' if anchor else ""
    kind = " ".join(("cl", *classes))
    return f'<span class="{kind}"{identifier}{attributes}>{shown}<span class="src">{text or " "}</span>{gutter}</span>'


def _strip(lines, amount):
    """Remove the common indentation from highlighted lines: blanks are bare, or in a whitespace span."""
    result = []
    for line in lines:
        left = amount
        prefix = '<span class="w">'
        if line.startswith(prefix):
            end = line.index("</span>")
            blanks = line[len(prefix) : end]
            result.append(prefix + blanks[left:] + line[end:])
        else:
            blanks = len(line) - len(line.lstrip(" "))
            result.append(line[min(left, blanks) :])
    return result


def _windows(module, span, quiet):
    """Line numbers to show around a span."""
    first, last = source.function_bounds(module, span.function) if span.function else (span.first, span.last)
    body = [n for n in range(first, last + 1) if n not in quiet and module.lines[n - 1].strip()]
    covered = range(span.first, span.last + 1)
    if len(body) > SHORT:
        inside = [i for i, n in enumerate(body) if n in covered]
        low, high = max(inside[0] - CONTEXT, 0), inside[-1] + CONTEXT + 1
        body = body[low:high]
    return sorted({*body, *(n for n in covered if module.lines[n - 1].strip())})


def beside(module, labels):
    """Return the HTML of the code beside one or several equations."""
    blocks, page = [], module
    for label in labels:
        module = page if page.of(label) else source.terms(page)
        quiet, shown, groups = source.quiet_lines(module), _lines_of(module), {}
        for span in module.of(label):
            groups.setdefault(span.function, []).append(span)
        # first the function with most of it
        groups = dict(sorted(groups.items(), key=lambda group: -sum(s.last - s.first + 1 for s in group[1])))
        for function, spans in groups.items():
            covered = {n for s in spans for n in range(s.first, s.last + 1)}
            numbers = sorted({n for s in spans for n in _windows(module, s, quiet)})
            amount = min(len(module.lines[n - 1]) - len(module.lines[n - 1].lstrip()) for n in numbers)
            rows, before = [], 0
            texts = [TAG.sub("", line) for line in _strip([shown[n - 1] for n in numbers], amount)]
            for n, text in zip(numbers, texts, strict=True):
                between = range(before + 1, n) if before else range(0)
                if any(m not in quiet and module.lines[m - 1].strip() for m in between):
                    rows.append('<span class="cl gap">⋮</span>')
                before = n
                if not text.strip() and module.lines[n - 1].strip():  # the tag stood alone on its line
                    continue
                rows.append(
                    _line(
                        n, text, classes=("on",) if n in covered else (), href=f"#line-{n}" if module is page else None
                    )
                )
            where = f"in {function}" if function else "in the module"
            block = _block(rows, where + f" ({module.path.name})" * (module is not page), label)
            if function != next(iter(groups)):
                block = f'<details class="fold"><summary>also in {html.escape(function)}</summary>{block}</details>'
            blocks.append(block)
    return "\n".join(blocks)


def _block(rows, caption, label):
    name = html.escape(f"Code of equation {label}, {caption}", quote=True)
    return (
        f'<div class="beside" data-eq="{label}"><p class="where">{html.escape(caption)}</p>'
        f'<div class="highlight"><pre tabindex="0" aria-label="{name}">{"".join(rows)}</pre></div></div>'
    )


def listing(module):
    """Return the HTML of the module's code below its docstring; docstrings of functions are there, but quiet."""
    shown, numbers = _lines_of(module), {label: i + 1 for i, label in enumerate(module.labels)}
    labels_at = {}
    for span in module.spans:
        for n in range(span.first, span.last + 1):
            labels_at.setdefault(n, []).append(span.label)
    begun, rows = set(), []
    for n in range(module.code_starts, len(module.lines) + 1):
        labels = list(dict.fromkeys(labels_at.get(n, [])))
        fresh = [label for label in labels if label not in begun or label not in labels_at.get(n - 1, [])]
        gutter = ""
        for label in fresh:
            anchor = f' id="code-{label}"' if label not in begun else ""
            begun.add(label)
            number = numbers.get(label, "")
            gutter += (
                f'<a class="eqlink"{anchor} href="#equation-{label}" title="equation {label}">'
                f'<span class="visually-hidden">equation </span>({number})</a>'
            )
        attributes = f' data-eq="{" ".join(labels)}"' if labels else ""
        classes = ("on",) if labels else ()
        rows.append(_line(n, shown[n - 1], classes=classes, anchor=f"line-{n}", gutter=gutter, attributes=attributes))
    return (
        f'<div class="highlight listing"><pre tabindex="0" aria-label="The module\'s code">{"".join(rows)}</pre></div>'
    )
