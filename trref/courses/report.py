"""What a student reads: the verdict by stage, the smallest failing case worked through, hints."""

import html

from trref.courses.explained import NAMES

__all__ = ["as_html", "as_text", "bars", "escape", "page", "points_table"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { text-align: left; padding: .25rem .8rem .25rem 0; }
th { border-bottom: 1px solid #888; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; }
.passed { color: #17672b; } .failed, .not { color: #9c1c1c; } .bar { background: #4a72b0; height: 1em; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd; } pre { background: #23262b; }
  .passed { color: #6fd089; } .failed, .not { color: #ff8d8d; } }
"""


def as_text(result, attempt=3):
    """Return what is said of one exercise, as lines of text.

    Parameters
    ----------
    result : dict
        Of `trref.courses.judge.Result`.
    attempt : int
        The number of the try: so many hints are shown.
    """
    lines = [
        f"{result['status'].upper()}: {result['exercise']}, level {result['level']}"
    ]
    lines[0] += f": {_number(result['score'])} of {_number(result['of'])} points"
    lines += [f"  {note}" for note in result["notes"]]
    for stage, found in result["stages"].items():
        right = found["cases"] - found["failed"]
        points = f"{_number(found['score'])} of {_number(found['of'])}"
        lines.append(
            f"  {NAMES[stage]:10} {points}: {right} of {found['cases']} cases right"
        )
        if found["failed"]:
            lines.append(f"             fails {found['where']}")
            lines.append(f"             {found['first']}")
    if worked := result["worked"]:
        lines += [
            "  the smallest failing case, worked through:",
            *(f"    {line}" for line in _worked(worked)),
        ]
    shown = result["hints"][:attempt]
    lines += [f"  hint {i}: {hint}" for i, hint in enumerate(shown, start=1)]
    return "\n".join(lines)


def _number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _worked(worked):
    lines = [f"{name} = {text}" for name, text in worked["inputs"].items()]
    if worked["hyper"]:
        lines.append(f"({', '.join(f'{k} = {v}' for k, v in worked['hyper'].items())})")
    for name, label, text, place in worked["terms"]:
        at = f"  [{label}]" if label else ""
        yours = (
            (f"  (yours: {place})" if place else "  (not found in yours)")
            if worked["traced"]
            else ""
        )
        lines.append(f"  {name} = {text}{at}{yours}")
    if worked["error"]:
        return [*lines, worked["error"]]
    return [
        *lines,
        f"{worked['part']} is {worked['found']}, expected {worked['expected']}",
    ]


def as_html(result, attempt):
    """Return the same as a section of a page."""
    kind = result["status"].partition(" ")[0]
    title = f"{result['exercise']}, level {result['level']}"
    lines = [f"<h2>{html.escape(title)}</h2>"]
    points = f"{_number(result['score'])} of {_number(result['of'])} points"
    lines.append(
        f'<p><b class="{kind}">{html.escape(result["status"])}</b>, {points}</p>'
    )
    lines += [f"<p>{html.escape(note)}</p>" for note in result["notes"]]
    if result["stages"]:
        lines.append(_table(result["stages"]))
    if worked := result["worked"]:
        text = html.escape("\n".join(_worked(worked)))
        lines.append(
            f"<p>The smallest failing case, worked through:</p><pre>{text}</pre>"
        )
    shown = result["hints"][:attempt]
    for number, hint in enumerate(shown, start=1):
        lines.append(f"<p><b>Hint {number}.</b> {html.escape(hint)}</p>")
    left = len(result["hints"]) - len(shown)
    if left:
        lines.append(
            f"<p>{left} more {'hints' if left > 1 else 'hint'}, one with each further try.</p>"
        )
    return "\n".join(lines)


def _table(stages):
    rows = [
        "<tr><th>stage</th><th>points</th><th>cases right</th><th>what differs</th></tr>"
    ]
    for stage, found in stages.items():
        right, count = found["cases"] - found["failed"], found["cases"]
        where = f"fails {found['where']}" if found["failed"] else ""
        cells = [
            NAMES[stage],
            f"{_number(found['score'])} of {_number(found['of'])}",
            f"{right} of {count}",
            where,
        ]
        rows.append(
            "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>"
        )
    return "<table>" + "".join(rows) + "</table>"


def page(title, body):
    """Return a whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def escape(text):
    """Return a text for a page."""
    return html.escape(str(text))


def bars(rows, whole):
    """Return a histogram of ``(what, how many)``."""
    lines = ["<table><tr><th>what failed first</th><th>students</th><th></th></tr>"]
    for what, count in rows:
        bar = f'<div class="bar" style="width: {240 * count / whole:.0f}px"></div>'
        lines.append(
            f'<tr><td>{escape(what)}</td><td class="number">{count}</td><td>{bar}</td></tr>'
        )
    return "".join([*lines, "</table>"])


def points_table(stems, people):
    """Return everybody's points."""
    heads = "".join(f"<th>{escape(s)}</th>" for s in ("student", *stems, "sum"))
    lines = [f"<table><tr>{heads}</tr>"]
    for student, grade in people.items():
        cells = [_number(grade["exercises"][s]["score"]) for s in stems] + [
            _number(grade["score"])
        ]
        row = "".join(f'<td class="number">{c}</td>' for c in cells)
        lines.append(f"<tr><td>{escape(student)}</td>{row}</tr>")
    return "".join([*lines, "</table>"])
