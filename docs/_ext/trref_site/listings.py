"""Code as HTML, line by line, with links between lines and equations."""

import functools
import html
import re

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from trref_site import source

__all__ = ["beside", "listing", "shown"]

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
    blanks = len(plain := _plain(text)) - len(plain.lstrip(" "))
    attributes += f' style="--in:{blanks}"' * (blanks > 0)
    return f'<span class="{kind}"{identifier}{attributes}>{shown}<span class="src">{text or " "}</span>{gutter}</span>'


def _plain(text):
    return html.unescape(re.sub("<[^>]*>", "", text))


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


def code_of(page, labels):
    """The code of equations, function by function, that with most of it first: ``{(module, function): spans}``."""
    groups = {}
    for label in labels:
        module = source.home(page, label)
        for span in module.of(label):
            groups.setdefault((module, span.function), []).append(span)
    return dict(sorted(groups.items(), key=lambda group: -len(_covered(group[1]))))


def _covered(spans):
    return {n for s in spans for n in range(s.first, s.last + 1)}


def shown(page, labels):
    """The lines that stand beside equations, in the function with most of their code: ``{(path, number), …}``."""
    for (module, _), spans in code_of(page, labels).items():
        quiet = source.quiet_lines(module)
        return {(module.path, n) for s in spans for n in _windows(module, s, quiet)}
    return set()


def beside(module, labels):
    """Return the HTML of the code beside equations: each line once, with the numbers of those that begin there."""
    page, blocks = module, []
    for number, ((module, function), spans) in enumerate(code_of(page, labels).items()):
        where = f"in {function}" if function else "in the module"
        block = _block(
            _rows(page, module, spans),
            where + f" ({module.path.name})" * (module is not page),
            [s.label for s in spans],
        )
        if number:
            block = f'<details class="fold"><summary>also in {html.escape(function)}</summary>{block}</details>'
        blocks.append(block)
    return "\n".join(blocks)


def _rows(page, module, spans):
    quiet, lines, covered = source.quiet_lines(module), _lines_of(module), _covered(spans)
    numbers = sorted({n for s in spans for n in _windows(module, s, quiet)})
    amount = min(len(module.lines[n - 1]) - len(module.lines[n - 1].lstrip()) for n in numbers)
    several = len({s.label for s in spans}) > 1
    rows, before, marks = [], 0, []
    texts = [TAG.sub("", line) for line in _strip([lines[n - 1] for n in numbers], amount)]
    for n, text in zip(numbers, texts, strict=True):
        between = range(before + 1, n) if before else range(0)
        if any(m not in quiet and module.lines[m - 1].strip() for m in between):
            rows.append('<span class="cl gap">⋮</span>')
        before = n
        marks += [s.label for s in spans if s.first == n] if several else []
        if not text.strip() and module.lines[n - 1].strip():  # the tag stood alone on its line
            continue
        href = f"#line-{n}" if module is page else None
        gutter = "".join(_mark(page, label) for label in dict.fromkeys(marks))
        rows.append(_line(n, text, classes=("on",) if n in covered else (), href=href, gutter=gutter))
        marks = []
    return rows


def _mark(page, label, anchor=""):
    number = page.labels.index(label) + 1 if label in page.labels else ""
    return (
        f'<a class="eqlink"{anchor} href="#equation-{label}" title="equation {label}">'
        f'<span class="visually-hidden">equation </span>({number})</a>'
    )


def _block(rows, caption, labels):
    labels = list(dict.fromkeys(labels))
    name = html.escape(f"Code of equation {', '.join(labels)}, {caption}", quote=True)
    return (
        f'<div class="beside" data-eq="{" ".join(labels)}"><p class="where">{html.escape(caption)}</p>'
        f'<div class="highlight"><pre tabindex="0" aria-label="{name}">{"".join(rows)}</pre></div></div>'
    )


def listing(module):
    """Return the HTML of the module's code below its docstring; docstrings of functions are there, but quiet."""
    lines, labels_at = _lines_of(module), {}
    for span in module.spans:
        for n in range(span.first, span.last + 1):
            labels_at.setdefault(n, []).append(span.label)
    begun, rows = set(), []
    for n in range(module.code_starts, len(module.lines) + 1):
        labels = list(dict.fromkeys(labels_at.get(n, [])))
        fresh = [label for label in labels if label not in begun or label not in labels_at.get(n - 1, [])]
        gutter = ""
        for label in fresh:
            gutter += _mark(module, label, f' id="code-{label}"' if label not in begun else "")
            begun.add(label)
        attributes = f' data-eq="{" ".join(labels)}"' if labels else ""
        classes = ("on",) if labels else ()
        rows.append(_line(n, lines[n - 1], classes=classes, anchor=f"line-{n}", gutter=gutter, attributes=attributes))
    return (
        f'<div class="highlight listing"><pre tabindex="0" aria-label="The module\'s code">{"".join(rows)}</pre></div>'
    )
