"""Pages that collect from everywhere: deviations, claims, measurements, symbols."""

import inspect
import json
import re

from trref import catalog
from trref.catalog.citations import citation
from trref_site import pages, rst, seen, source, tutorials

__all__ = ["CONTENTS"]

DOCS = tutorials.ROOT / "docs"


def _json(name):
    path = DOCS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def conformance():
    """What public code was found to compute."""
    judged = [
        (
            rst.row(f"{method.slug} {number}") + " " + rst.inline(entry["implementation"].replace("'", "")),
            rst.inline(entry["version"]),
            pages.of_function(entry["function"]),
            f":verdict:`{entry['verdict']}`",
            entry["cases"],
            rst.inline(entry["finding"]),
        )
        for method in catalog.methods()
        for number, entry in enumerate(_json(f"ledger/{method.slug}.json") or (), 1)
    ]
    header = ("implementation", "version", "function", "verdict", "cases", "finding")
    blocks = [
        ".. rubric:: Packages, judged by trref verify\n",
        rst.table(header, judged, widths=(22, 12, 24, 11, 8, 23), classes="judged stack filter"),
    ]
    rows = [
        (
            rst.row(f"{record.name} {deviation.name}") + " " + pages.of_function(record.name),
            rst.inline(deviation.name),
            seen.linked(deviation.seen_in),
            rst.inline(deviation.computes),
            "documented" if deviation.documented else "not documented",
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
            ("function", "deviation", "seen", "computes", "choice"),
            rows,
            widths=(22, 16, 22, 25, 15),
            classes="deviations stack filter",
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
        figure = pages.picture(tutorial, 260, ".")
        anchor = rst.row(f"{method.family} {method.slug}")
        where = f"{anchor} {pages.link(method)}\n\n:doc:`the experiment <{tutorial.document}>`"
        if not tutorial.claims:
            shown = "Asserted:\n\n" + pages.asserted(tutorial) if tutorial.assertions else ""
            rows.append((where, rst.inline(tutorial.title), " ".join(tutorial.summary.split()), figure, shown))
        for number, claim in enumerate(tutorial.claims):
            options = claim.options
            experiment = "\n\n".join(
                f"**{name.capitalize()}:** {options[name].rstrip('.')}."
                for name in ("experiment", "controls")
                if options.get(name)
            )
            rows.append((where, claim.text, experiment, "" if number else figure, pages.shown(claim)))
    header = ("method", "the paper's claim", "our experiment and its controls", "figure", "shown at this scale?")
    return rst.table(header, rows, widths=(15, 19, 23, 21, 22), classes="claims stack filter")


def bench():
    """Measurements, with the machine that they were taken on."""
    data = _json("bench.json")
    if data is None:
        return "No measurements are on record yet.\n"
    words = {"processor": "{}", "cores": "{} cores", "python": "Python {}"}
    machine = ", ".join(words.get(key, f"{key} {{}}").format(value) for key, value in data["machine"].items())
    rows = [
        (
            rst.inline(entry["row"]),
            rst.inline(entry.get("peer", "")),
            entry.get("threads", ""),
            _time(entry["ours"]),
            *((_time(entry["theirs"]), f"{entry['ratio']:.2f}") if "peer" in entry else ("", "")),
            rst.inline(entry["target"]).replace(">=", "at least").replace("<=", "at most"),
        )
        for entry in data["rows"]
        if "error" not in entry
    ]
    header = ("what is computed", "against", "threads", "trref", "peer", "peer / trref", "target")
    return (
        f"Machine: {rst.inline(machine)}.\n\n"
        f"{rst.table(header, rows, widths=(30, 19, 9, 10, 10, 10, 12), classes='bench stack')}"
    )


def _time(seconds):
    """A time in the unit that suits it."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


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
        some = [*some[:4], *([f"and {len(some) - 4} more"] if len(some) > 4 else [])]
        users = "\n".join(f"| {user}" for user in some)
        rows.append((rst.code(name), shapes, kinds, words, users))
    return rst.table(
        ("name", "shape", "kind", "meaning", "taken by"), rows, widths=(16, 14, 10, 30, 30), classes="arguments stack"
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
    """All methods in one table, which filters as one types."""
    rows = []
    for family, some in pages.families().items():
        for method in some:
            tutorial, paper = tutorials.read(method.family, method.slug), citation(method.key)
            arxiv = f"`{paper.arxiv} <https://arxiv.org/abs/{paper.arxiv}>`__" if paper.arxiv else ""
            shown = list(dict.fromkeys(pages.verdict(claim) for claim in tutorial.claims)) if tutorial else []
            rows.append(
                (
                    pages.link(method),
                    pages.after_the_name(method).removeprefix(": ") or f"*{rst.inline(paper.title)}*",
                    f":doc:`{family} </methods/{family}/index>`",
                    arxiv,
                    paper.year,
                    pages.badges(method),
                    " ".join(shown),
                    f":doc:`yes <{tutorial.document}>`" if tutorial and tutorial.exercises else "",
                )
            )
    header = ("method", "idea", "family", "arXiv", "year", "provenance", "claim shown", "exercises")
    return rst.table(header, rows, widths=(22, 30, 10, 9, 6, 9, 8, 6), classes="finder stack filter")


def doors():
    """Ways in beside the table: the courses, where they are written."""
    found = [
        f":doc:`{words} </{name}>`"
        for name, words in (("courses/index", "the courses"), ("teach", "teaching with trref"))
        if (DOCS / f"{name}.rst").is_file()
    ]
    found += [":doc:`the tutorials </auto_tutorials/index>`"]
    return f"Other ways in: {', '.join(found)}.\n"


def numbers():
    """How much there is."""
    some, records = catalog.methods(), catalog.records()
    equations = sum(len(source.read(m.module.__name__).labels) for m in some)
    deviations = sum(len(r.deviations) for r in records)
    return (
        f"{len(some)} methods, {len(records)} functions, {equations} numbered equations with their code, "
        f"{deviations} deviations on record.\n"
    )


CONTENTS = {f.__name__: f for f in (conformance, claims, bench, arguments, methods, doors, numbers)}
