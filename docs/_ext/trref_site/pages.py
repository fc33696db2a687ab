"""Writes a page a method and a page a family, from the catalogue and the modules; nobody writes them by hand."""

import ast
import inspect
import os
import re

from docutils import nodes

import trref
from trref import catalog, checks
from trref.catalog.citations import citation
from trref_site import figures, ideas, listings, portraits, reading, rst, seen, source, tutorials

__all__ = ["families", "write"]

ROOT = tutorials.ROOT
OUT = ROOT / "docs" / "methods"
ONLY = os.environ.get("TRREF_ONLY", "").split()  # the methods of which a part of the site is built

NEXT = 5  # pages that a page names as the next ones

LEVELS = {
    "confirmed": "read in the paper or in the authors' code",
    "partly": "read in part; the rest follows from what was read",
    "reconstructed": "built from the abstract and standard theory",
}

# what "agree" means in each contract of trref.checks
FIGURES = {
    "record_is_complete": "every section, every probe",
    "returns": "exactly",
    "lengths": "two values at least",
    "pure": "bitwise",
    "shapes": "exactly",
    "float32": f"{rst.number(checks.SINGLE)}, relative",
    "batch_of_one": "finite",
    "strict_device": "bitwise; synchronisations counted",
    "bad_input": "every input, every way to spoil it",
    "limits": f"{rst.number(checks.EQUAL)}, relative",
    "deviations": f"differ by more than {rst.number(checks.EQUAL)}",
    "gradient": f"{rst.number(checks.SLOPE)} of the slope; Taylor slope at least {rst.number(checks.TAYLOR)}",
    "stop_gradients": f"{rst.number(checks.STOPPED)}, relative",
    "derivatives": f"jvp {rst.number(checks.PUSHED)}; adjoint {rst.number(checks.ADJOINT)}",
    "projection": f"{rst.number(checks.PROJECTED)}",
    "certificate": "the tolerances below",
    "failures": "warned, finite, within what remains",
    "refused": "an error that names an argument",
    "brute_force": f"{rst.number(checks.BRUTE_FORCE)}, relative",
    "sampling": "the allowances of its moments",
}

KINDS = {
    "Objective": "objective with gradient",
    "Transform": "transform with derivatives",
    "Solver": "solver with certificate",
    "UpdateRule": "update rule",
    "Estimator": "estimator",
    "Sampler": "sampler",
}


def families():
    """The families that have methods, in order: name -> methods; all, or those of which pages are built."""
    found = {}
    for method in catalog.methods():
        if ONLY and method.slug not in ONLY:
            continue
        found.setdefault(method.family, []).append(method)
    return found


def about(family):
    """The first paragraph of the family's docstring."""
    import importlib

    return (inspect.getdoc(importlib.import_module(f"trref.{family}")) or "").partition("\n\n")[0]


def write():
    """Write docs/methods; files whose content stays as it is are left alone, and others removed."""
    pages = {"index.rst": _index()}
    for family, methods in families().items():
        pages[f"{family}/index.rst"] = _family(family, methods)
        for method in methods:
            pages[f"{family}/{method.slug}.rst"] = _method(method)
    for path in OUT.rglob("*.rst") if OUT.exists() else ():
        if str(path.relative_to(OUT)) not in pages:
            path.unlink()
    for name, text in pages.items():
        path = OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def document(method):
    return f"/methods/{method.family}/{method.slug}"


def link(method, text=None):
    return f":doc:`{text or heading_of(method)} <{document(method)}>`"


def heading_of(method):
    """The method's name: what its docstring's title says before the colon."""
    return _title(method)[0]


def after_the_name(method):
    """What the title says after the colon, with the colon."""
    words = source.read(method.module.__name__).title.partition(": ")[2]
    return f": {rst.inline(words)}" if words else ""


def _title(method):
    """Name and the words after the colon, which say what is special about it."""
    name, _, words = source.read(method.module.__name__).title.partition(": ")
    return name.replace("<", "").replace(">", ""), words[:1].upper() + words[1:]


def of_function(name):
    """A link to a catalogued function."""
    record = catalog.find(name)
    return f":func:`{record.name} <{record.f.__module__}.{record.f.__name__}>`"


def provenance_levels(method):
    return [method.provenance] if isinstance(method.provenance, str) else list(method.provenance)


def badges(method):
    return " ".join(f":provenance:`{level}`" for level in provenance_levels(method))


# ------------------------------------------------------------------------------------------------------ a method


def _method(method):
    module = source.read(method.module.__name__)
    sections = {name: write_section(method, module) for name, write_section in SECTIONS.items()}
    sections = {name: text for name, text in sections.items() if text}
    blocks = [
        ":html_theme.sidebar_secondary.remove:\n",
        f".. _method-{method.family}-{method.slug}:\n",
        rst.heading(heading_of(method)),
        _under_the_title(method),
        _on_this_page(sections),
        f".. portrait:: {portraits.leading(method).name}\n",
        _equations(module),
        _derivation(method),
    ]
    for name, text in sections.items():
        blocks += [_section(name), text]
    return "\n\n".join(blocks) + "\n"


def _section(text):
    return rst.heading(text, 1)


def _on_this_page(sections):
    links = "\n".join(f'    <a href="#{nodes.make_id(name)}">{name}</a>' for name in sections)
    return f'.. raw:: html\n\n    <nav class="on-this-page" aria-label="On this page">\n{links}\n    </nav>\n'


def _under_the_title(method):
    arxiv = f" · `arXiv:{method.arxiv} <https://arxiv.org/abs/{method.arxiv}>`__" if method.arxiv else ""
    name = f"{method.family}/{method.slug}.py"
    words = _title(method)[1]
    lead = f".. rst-class:: lead\n\n{rst.inline(words)}.\n\n" if words else ""
    return (
        f"{lead}.. rst-class:: facts\n\n*{rst.inline(method.title)}*{arxiv}\n\n"
        f".. rst-class:: facts\n\n:doc:`{method.family} </methods/{method.family}/index>` · ``trref/{name}`` · "
        f"{badges(method)} \n{_reading(method)}"
    )


def _reading(method):
    """What to read before this page and after it, a few of each; all stand among the limits."""
    words = [
        f"**{name}:** {', '.join(map(link, some[:NEXT]))}"
        + (f" and {len(some) - NEXT} more" if len(some) > NEXT else "")
        for name, some in (("Before this page", reading.before(method)), ("After it", reading.after(method)))
        if some
    ]
    return f"\n.. rst-class:: facts\n\n{' · '.join(words)}\n" if words else ""


def _equations(module):
    blocks = []
    for texts, labels in _rows(module):
        if labels:
            code = rst.indent(f".. code-beside:: {module_name(module)}\n    :equations: {' '.join(labels)}\n")
            text = rst.indent("\n\n".join(texts))
            blocks.append(
                ".. container:: eq-row\n\n"
                + rst.indent(f".. container:: eq-math\n\n{text}\n\n.. container:: eq-code\n\n{code}\n")
            )
        else:
            blocks += [f".. container:: eq-prose\n\n{rst.indent(text)}\n" for text in texts]
    return "\n\n".join(blocks)


def _derivation(method):
    """What docs/derivations holds for the method, folded."""
    path = ROOT / "docs" / "derivations" / f"{method.slug}.rst"
    return f".. fold:: The derivation, line by line\n\n    .. include:: /derivations/{path.name}\n" * path.is_file()


def _rows(module):
    """Text and labels row by row: equations one after the other of which the same lines are the code share a row."""
    rows, before = [], set()
    for part in module.parts:
        lines = listings.shown(module, part.labels)
        shared = len(lines & before)
        if part.labels and shared and shared >= 0.7 * min(len(lines), len(before)):
            rows[-1][0].append(part.text)
            rows[-1][1].extend(part.labels)
            before |= lines
        else:
            rows.append(([part.text], list(part.labels)))
            before = lines
    return rows


def module_name(module):
    parts = module.path.parts
    return ".".join(parts[len(parts) - 1 - parts[::-1].index("trref") : -1]) + "." + module.path.stem


def _pictures(method, module):
    first = portraits.leading(method)
    return "\n".join(f".. portrait:: {record.name}\n" for record in method.functions if record is not first)


def _functions(method, module):
    python = method.module
    blocks = [f".. py:module:: {python.__name__}\n", f".. currentmodule:: {python.__name__}\n"]
    for name in public(module):  # in the order of the file, which is the order to read them in
        kind = "class" if inspect.isclass(getattr(python, name)) else "function"
        blocks.append(f".. auto{kind}:: {name}\n")
    return "\n".join(blocks)


def public(module):
    """The functions and classes that a module defines for others, in its order."""
    tree = ast.parse("\n".join(module.lines))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def _cases(record):
    return sum(1 for _ in checks.cases(record))


def _checked(method, module):
    blocks, holds = [], {}
    for record in method.functions:
        kind, settings = type(record).__name__, len(record.settings)
        article = "an" if KINDS[kind][0] in "aeiou" else "a"
        blocks.append(
            f"{of_function(record.name)}, {article} :class:`{KINDS[kind]} <trref.catalog.{kind}>`:"
            f" {_cases(record)} cases, under {settings} setting{'s' if settings > 1 else ''}."
            + (f" An inner iteration leaves a relative error of {record.tolerance:g}." if record.tolerance else "")
            + (f" Hard cases: {'; '.join(rst.inline(name) for name in record.edges)}." if record.edges else "")
            + "\n"
        )
        for contract in checks.contracts_of(record):
            holds.setdefault(contract, []).append(record)
    blocks = [rst.bullets(blocks)]
    rows = [
        (
            contract.__name__.replace("_", " "),
            _first_line(contract),
            FIGURES.get(contract.__name__, ""),
            "all" if len(some) == len(method.functions) else ", ".join(rst.code(r.f.__name__) for r in some),
        )
        for contract, some in holds.items()
    ]
    header = ("contract", "what must hold", "to", "functions")
    blocks.append(rst.table(header, rows, widths=(16, 44, 22, 18), classes="contracts stack"))
    blocks += [_certificate(record) for record in method.functions if isinstance(record, catalog.Solver)]
    return "\n".join(blocks) + "\n" + _tests(method)


def _first_line(f):
    return rst.inline(" ".join((inspect.getdoc(f) or "").partition("\n\n")[0].split()))


def _certificate(record):
    """The figures of the certificate, the worst over the examples, beside what is allowed."""
    import warnings

    from trref import backend

    worst = {}
    with backend.use_backend("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in checks.cases(record, seeds=(0,)):
            result = checks.run(record, case.inputs, case.hyper)
            for name, figure in record.certificate(result, **case.inputs, **case.hyper).items():
                if name not in worst or float(figure) > worst[name][0]:
                    worst[name] = (float(figure), case.label)
    rows = [
        (rst.inline(name), rst.number(figure, 2), rst.number(record.tolerances[name]), rst.inline(label))
        for name, (figure, label) in worst.items()
    ]
    table = rst.table(("certificate", "worst seen", "allowed", "in the case"), rows, classes="certificate")
    return f"The certificate of {of_function(record.name)}, over its examples and hard cases:\n\n{table}"


def _tests(method):
    """The method's own tests by their names and first lines, and the packages that it is compared with."""
    path = ROOT / "tests" / method.family / f"test_{method.slug}.py"
    blocks = []
    if path.is_file():
        items = [_test_line(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_test(node)]
        if items:
            blocks.append(f"Beside the contracts, ``tests/{method.family}/{path.name}`` tests:\n")
            blocks.append(rst.bullets(items))
    peers = []
    for peer in sorted((ROOT / "tests" / "peers").glob("test_*.py")):
        if re.search(rf"trref\.{method.family}(\.| import .*\b){method.slug}\b", peer.read_text(encoding="utf-8")):
            peers.append(f"``tests/peers/{peer.name}``")
    if peers:
        blocks.append(f"Compared with public packages in {', '.join(peers)}.\n")
    return "\n".join(blocks)


def _is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def _test_line(node):
    words = node.name.removeprefix("test_").replace("_", " ")
    doc = (ast.get_docstring(node) or "").partition("\n\n")[0]
    return f"{rst.inline(words)}" + (f": {rst.inline(' '.join(doc.split()))}" if doc else "")


def _settings(method, module):
    blocks, only = [], len(method.functions) == 1
    for record in method.functions:
        name = "" if only else f"{of_function(record.name)}: "
        required = [k for k, v in record.hyper_parameters.items() if v is inspect.Parameter.empty]
        defaults = {k: v for k, v in record.hyper_parameters.items() if k not in required}
        if record.hyper_parameters:
            words = [f"defaults {rst.assigned(defaults)}"] if defaults else []
            words += [f"to be given: {', '.join(map(rst.code, required))}"] if required else []
            blocks.append(_sentence(name + "; ".join(words)) + "\n")
            rows = [(rst.inline(name), rst.assigned(values) or "as above") for name, values in record.settings.items()]
            blocks.append(rst.table(("setting", "values"), rows, widths=(30, 70)))
        else:
            blocks.append(_sentence(f"{name}no hyper-parameters") + "\n")
        for name in getattr(record, "stopped", {}):
            blocks.append(f"The gradient holds ``{name}`` constant.\n")
    limits = _reductions(lambda record, other: record in method.functions)
    if limits:
        blocks.append(f"Limits in which {'it' if only else 'one of these'} equals another function, each checked:\n")
        blocks.append(_limits_table(limits))
    arriving = _reductions(lambda record, other: other in method.functions and record not in method.functions)
    if arriving:
        blocks.append(f"Functions of other pages that equal {'it' if only else 'one of these'} in a limit:\n")
        blocks.append(_limits_table(arriving))
    return "\n".join(blocks)


def _reductions(wanted):
    """The declared limits between two functions, for those pairs of records that are wanted."""
    return [
        (record, catalog.find(limit.to), limit)
        for record in catalog.records()
        for limit in record.limits
        if wanted(record, catalog.find(limit.to))
    ]


def _limits_table(limits):
    """Each limit a row; what holds of the inputs is often no sentence, so it has a column of its own."""
    rows = [
        (
            of_function(record.name),
            rst.assigned(limit.hyper) or "defaults",
            rst.inline(limit.place) or "all",
            of_function(other.name) + (f" with {rst.assigned(limit.to_hyper)}" if limit.to_hyper else ""),
        )
        for record, other, limit in limits
    ]
    header = ("function", "settings", "inputs", "equals")
    return rst.table(header, rows, widths=(22, 26, 24, 28), classes="limits stack")


def _deviations(method, module):
    blocks = [text for name, text in module.sections.items() if name.startswith("Where implementations differ")]
    for record in method.functions:
        for deviation in record.deviations:
            choice = "a documented choice" if deviation.documented else "not documented as a choice"
            code = rst.indent(inspect.getsource(deviation.f))
            blocks.append(
                f"**{rst.inline(deviation.name)}** (of {of_function(record.name)}; {choice})\n"
                f"    Computes: {_sentence(rst.inline(deviation.computes), capital=False)}\n\n"
                f"    Seen: {_sentence(seen.linked(deviation.seen_in), capital=False)}\n\n"
                f"    .. fold:: its code\n\n        .. code-block:: python\n\n{rst.indent(code, 8)}\n"
            )
    if not any(record.deviations for record in method.functions):
        blocks.append("No deviation of public code is on record.\n")
    return "\n\n".join(blocks)


def _provenance(method, module):
    blocks = []
    if isinstance(method.provenance, str):
        blocks.append(f"{badges(method)} All equations: {LEVELS[method.provenance]}.")
    else:
        prefix = method.slug.replace("_", "-")
        for level, names in method.provenance.items():
            equations = ", ".join(f":eq:`{prefix}-{name}`" for name in names)
            blocks.append(f":provenance:`{level}` {equations}: {LEVELS[level]}.")
    if "Provenance" in module.sections:
        blocks.append(module.sections["Provenance"])
    return "\n\n".join(blocks)


def _tutorial(method, module):
    tutorial = tutorials.read(method.family, method.slug)
    if tutorial is None:
        users = [t for t in tutorials.every() if method.module.__name__ in t.imports]
        links = [f":doc:`{t.title} <{t.document}>`" for t in users if not ONLY]
        return f"It has no tutorial of its own; these use it: {', '.join(links)}.\n" if links else ""
    blocks = [f":doc:`{tutorial.title} <{tutorial.document}>`. {' '.join(tutorial.summary.split())}\n"]
    blocks.append(picture(tutorial, 560, "../.."))
    blocks.append(claims(tutorial))
    return "\n".join(blocks)


def links_of_tutorial(family, slug):
    """RST for the top of a tutorial: its method's page, the equations there, and the other methods that it uses."""
    tutorial = tutorials.read(family, slug)
    methods = [m for some in families().values() for m in some]
    own = [m for m in methods if (m.family, m.slug) == (family, slug)]
    others = [m for m in methods if m not in own and m.module.__name__ in tutorial.imports]
    lines = []
    for method in own:
        labels = source.read(method.module.__name__).labels
        equations = f", equations {', '.join(f':eq:`{label}`' for label in labels)}" if labels else ""
        name = portraits.leading(method).name
        lines.append(f"Method: {link(method)}{equations}. Yours: ``trref verify {name} yours.py:f``.")
    if others:
        lines.append(f"It {'also ' if own else ''}uses {', '.join(map(link, others))}.")
    return f".. rst-class:: facts\n\n{' '.join(lines)}\n" if lines else ""


def picture(tutorial, width, root):
    """The tutorial's first figure, once for each theme, as a link to the tutorial; `root` leads to the site's."""
    first = next(iter(tutorial.figures), None)
    if first is None:
        return ""
    paths = {"light": first, "dark": first.with_name(f"{first.stem}_dark.png")}
    return "\n".join(
        f".. image:: /{path.relative_to(ROOT / 'docs').as_posix()}\n"
        f"    :alt: First figure of the tutorial {tutorial.title}\n    :width: {width}px\n"
        f"    :target: {root}{tutorial.document}.html\n    :class: only-{theme}\n"
        for theme, path in paths.items()
    )


def _sentence(text, *, capital=True):
    """The text with a full stop, and a capital letter where it begins with a word."""
    text = text.strip()
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    return text[:1].upper() + text[1:] if capital else text


def claims(tutorial):
    """The claims of a tutorial as RST; without any, what it asserts."""
    if tutorial.claims:
        return rst.bullets([f"{claim.text} Shown at this scale: {shown(claim)}" for claim in tutorial.claims])
    return "It asserts:\n\n" + asserted(tutorial) if tutorial.assertions else ""


def shown(claim):
    """The verdict of a claim, its first word as a badge."""
    text = claim.options.get("shown", "")
    for start, kind in (("yes", "yes"), ("in part", "part"), ("no", "no")):
        if text.startswith(start):
            return _sentence(f":shown-{kind}:`{start}`{text.removeprefix(start)}", capital=False)
    return text


def verdict(claim):
    """The verdict of a claim alone, as a badge."""
    text = claim.options.get("shown", "")
    kinds = (("yes", "yes"), ("in part", "part"), ("no", "no"))
    return next((f":shown-{kind}:`{start}`" for start, kind in kinds if text.startswith(start)), "")


def asserted(tutorial):
    return rst.bullets([a if a.startswith("``") else rst.inline(a) for a in tutorial.assertions])


def _citation(method, module):
    blocks = [module.citation, f"In the :doc:`bibliography </bibliography>`: :cite:t:`{method.key}`.\n"]
    name = portraits.leading(method).name
    bibtex = rst.indent(citation(method.key).bibtex)
    blocks.append(
        f".. admonition:: Cite the paper\n    :class: cite\n\n    .. code-block:: bibtex\n\n{rst.indent(bibtex)}\n"
    )
    commands = rst.indent(f"trref verify {name} yours.py:f\ntrref show {name}\ntrref exercise {name} -o exercise", 8)
    blocks.append(
        ".. admonition:: Verify yours, or ask\n    :class: ask\n\n    Does your code compute these equations?"
        " :doc:`/verify_your_own` says how to read the answer.\n\n    .. code-block:: console\n\n"
        f"{commands}\n\n    Is something wrong here? Open an issue that names ``{method.family}/{method.slug}``, the"
        f" number of the equation, and trref {trref.__version__}. Cite trref itself by its ``CITATION.cff``.\n"
    )
    return "\n\n".join(blocks)


def _listing(method, module):
    name = f"{module.path.parent.name}-{module.path.stem}"
    known = ROOT / "trref" / "catalog" / method.family / f"{method.slug}.py"
    place = f"/../{known.relative_to(ROOT)}"
    fold = f"\n.. fold:: What the catalogue knows of it\n\n    .. literalinclude:: {place}\n" * known.exists()
    return (
        f".. _the-module-{name}:\n\nBelow its docstring, which is the text above. A number at the right leads to its"
        f" equation.\n\n.. module-listing:: {module_name(module)}\n{fold}"
    )


SECTIONS = {
    "In pictures": _pictures,
    "Functions": _functions,
    "How it is checked": _checked,
    "Settings and limits": _settings,
    "Where implementations differ": _deviations,
    "Provenance": _provenance,
    "Tutorial": _tutorial,
    "Cite, verify, ask": _citation,
    "The module": _listing,
}


# ------------------------------------------------------------------------------------------------------ families


def _index():
    entries = "\n".join(f"    {family}/index" for family in families())
    rows = [
        (f":doc:`{family.capitalize()} </methods/{family}/index>`", rst.inline(about(family)), len(methods))
        for family, methods in families().items()
    ]
    table = rst.table(("family", "about", "methods"), rows, widths=(20, 65, 15), classes="families stack")
    return (
        f"{rst.heading('Methods')}\nA family a page, a method a page; all of them are written by the build from the"
        f" modules and their records.\n\n{table}\n"
        f".. toctree::\n    :hidden:\n\n{entries}\n"
    )


def _family(family, methods):
    groups = ideas.grouped(family, methods)
    tables = [
        (f"{rst.heading(idea or 'Further methods', 1)}\n" if len(groups) > 1 else "") + _table(some)
        for idea, some in groups.items()
    ]
    entries = "\n".join(f"    {method.slug}" for some in groups.values() for method in some)
    return (
        f":html_theme.sidebar_secondary.remove:\n\n{rst.heading(family.capitalize())}\n{about(family)} In reading"
        f" order: what a page needs stands before it.\n\n{chr(10).join(tables)}\n"
        f"{_limits(family)}\n.. toctree::\n    :hidden:\n\n{entries}\n"
    )


def _table(methods):
    rows = []
    for method in methods:
        kinds = dict.fromkeys(KINDS[type(record).__name__] for record in method.functions)
        functions = "\n".join(f"| {of_function(record.name)}" for record in method.functions)
        count = sum(len(record.deviations) for record in method.functions)
        words = _title(method)[1]
        name = link(method) + (f"\n\n{rst.inline(words)}." if words else "")
        rows.append((name, functions, ", ".join(kinds), badges(method), str(count or "none")))
    header = ("method", "functions", "kind", "provenance", "deviations on record")
    return rst.table(header, rows, widths=(28, 33, 16, 13, 10), classes="family stack")


def _limits(family):
    limits = _reductions(lambda record, other: family in (record.family, other.family))
    if not limits:
        return ""
    sources = figures.reached([(record.name, other.name) for record, other, _ in limits])
    order = list(sources)
    limits.sort(key=lambda limit: order.index(limit[1].name))
    drawn = figures.limits_map(sources, of_function)
    return (
        f"{rst.heading('Limits', 1)}\nWhich functions become which: an arrow leads to a function from those that"
        f" become it under some settings or for some inputs.\n\n{drawn}\n\nThe conditions, in the same order; each"
        f" limit is checked, in value and in gradient.\n\n{_limits_table(limits)}"
    )
