"""Pages that collect from everywhere: deviations, claims, measurements, symbols."""

import inspect
import json
import re

from trref import catalog
from trref_site import pages, rst, source, tutorials

__all__ = ["CONTENTS"]

DOCS = tutorials.ROOT / "docs"


def _json(name):
    path = DOCS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _records_table(entries):
    """A table of JSON objects: the union of their keys, in the order in which they come."""
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = [[_cell(entry.get(key, "")) for key in keys] for entry in entries]
    return rst.table([key.replace("_", " ") for key in keys], rows)


def _cell(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_cell(v)}" for k, v in value.items())
    text = str(value)
    try:
        return pages.of_function(text)
    except ValueError:
        return text if text.startswith(("http://", "https://")) else rst.inline(text)


def _facts(mapping):
    return "\n".join(f":{key.replace('_', ' ')}: {_cell(value)}" for key, value in mapping.items()) + "\n"


def _from_json(data):
    """Scalars as a field list; lists of objects as tables, each under its own name."""
    if isinstance(data, list):
        return _records_table(data)
    blocks = []
    facts = {k: v for k, v in data.items() if not isinstance(v, list) or not v or not isinstance(v[0], dict)}
    if facts:
        blocks.append(_facts(facts))
    for key, value in data.items():
        if key not in facts:
            blocks.append(f".. rubric:: {key.replace('_', ' ').capitalize()}\n\n{_records_table(value)}")
    return "\n\n".join(blocks)


def conformance():
    """What public code was found to compute."""
    data, blocks = _json("ledger.json"), []
    if data is not None:
        blocks.append(_from_json(data))
    rows = [
        (
            pages.of_function(record.name),
            rst.inline(deviation.name),
            rst.inline(deviation.seen_in),
            rst.inline(deviation.computes),
            "documented choice" if deviation.documented else "not documented",
        )
        for record in catalog.records()
        for deviation in record.deviations
    ]
    blocks.append(".. rubric:: Deviations on record\n")
    blocks.append(
        "Each is a small runnable function in the family's ``deviations``; every test run checks that it differs"
        " from the reference somewhere.\n"
    )
    blocks.append(
        rst.table(
            ("function", "deviation", "seen in", "computes", "choice"),
            rows,
            widths=(18, 18, 22, 30, 12),
            classes="stack",
        )
    )
    return "\n\n".join(blocks)


def claims():
    """What the papers claim, and what our experiments show."""
    rows = []
    for method in catalog.methods():
        tutorial = tutorials.read(method.family, method.slug)
        if tutorial is None:
            continue
        figure = ""
        if tutorial.thumbnail.is_file():
            image = tutorial.thumbnail.relative_to(DOCS).as_posix()
            figure = (
                f".. image:: /{image}\n    :alt: First figure of the tutorial {tutorial.title}\n    :width: 260px\n"
                f"    :class: plate\n    :target: .{tutorial.document}.html\n"
            )
        where = f"{pages.link(method)}\n\n:doc:`the experiment <{tutorial.document}>`"
        if not tutorial.claims:
            shown = "Asserted:\n\n" + pages.asserted(tutorial) if tutorial.assertions else ""
            rows.append((where, rst.inline(tutorial.title), " ".join(tutorial.summary.split()), figure, shown))
        for number, claim in enumerate(tutorial.claims):
            options = claim.options
            experiment = "\n\n".join(
                f"**{name.capitalize()}:** {options[name]}" for name in ("experiment", "controls") if options.get(name)
            )
            rows.append((where, claim.text, experiment, "" if number else figure, pages.shown(claim)))
    header = ("method", "the paper's claim", "our experiment and its controls", "figure", "shown at this scale?")
    return rst.table(header, rows, widths=(15, 19, 23, 21, 22), classes="claims stack")


def bench():
    """Measurements, with the machine that they were taken on."""
    data = _json("bench.json")
    if data is None:
        return "No measurements are on record yet.\n"
    return _from_json(data)


def arguments():
    """Every named input of the catalogue: shapes, kinds, meaning, and who takes it."""
    found = {}
    for record in catalog.records():
        for name, spec in record.inputs.items():
            entry = found.setdefault(name, {"shapes": [], "kinds": [], "words": [], "records": []})
            entry["shapes"].append(spec.shape)
            entry["kinds"].append(spec.kind)
            entry["records"].append(record)
            entry["words"] += [words] if (words := _described(record.f, name)) else []
    rows = []
    for name in sorted(found, key=str.lower):
        entry = found[name]
        shapes = ", ".join(f"``({', '.join(o.split())})``" for o in _options(entry["shapes"]))
        kinds = ", ".join(dict.fromkeys(k.replace("_", " ") for k in entry["kinds"]))
        words = max(entry["words"], key=entry["words"].count, default="")
        some = list(dict.fromkeys(pages.of_function(r.name) for r in entry["records"]))
        users = ", ".join(some[:4]) + (f" and {len(some) - 4} more" if len(some) > 4 else "")
        rows.append((rst.code(name), shapes, kinds, words, users))
    return rst.table(
        ("name", "shape", "kind", "meaning", "taken by"), rows, widths=(14, 16, 12, 32, 26), classes="stack"
    )


def _options(shapes):
    return dict.fromkeys(option.strip() for shape in shapes for option in shape.split("|") if option.strip())


def _described(f, name):
    """The first sentence that a docstring gives to a parameter."""
    doc = inspect.getdoc(f) or ""
    match = re.search(rf"^(?:\w+, )*{name}(?:, \w+)* : [^\n]*\n((?:    [^\n]*\n?)+)", doc, re.MULTILINE)
    if not match:
        return ""
    words = " ".join(match[1].split())
    return re.split(r"(?<=[.;]) ", words)[0]


def methods():
    """Family by family, each method with its idea's first line."""
    blocks = []
    for family, some in pages.families().items():
        items = [f"{pages.link(method)} · {rst.inline(method.title)}" for method in some]
        blocks.append(f"**:doc:`{family} </methods/{family}/index>`**\n".replace("**", ""))
        blocks.append(rst.bullets(items))
    return "\n\n".join(blocks)


def numbers():
    """How much there is."""
    some, records = catalog.methods(), catalog.records()
    equations = sum(len(source.read(m.module.__name__).labels) for m in some)
    deviations = sum(len(r.deviations) for r in records)
    return (
        f"{len(some)} methods, {len(records)} functions, {equations} numbered equations with their code, "
        f"{deviations} deviations of public code on record.\n"
    )


CONTENTS = {f.__name__: f for f in (conformance, claims, bench, arguments, methods, numbers)}
