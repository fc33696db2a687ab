"""The extension behind the site: what it reads from modules and tutorials."""

import json
import pathlib
import sys

import pytest

pytest.importorskip("sphinx", reason="the site's extension needs Sphinx, of the extra 'docs'")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from trref_site import (  # noqa: E402
    drawing,
    figures,
    ideas,
    ledgers,
    listings,
    names,
    notebooks,
    pages,
    portraits,
    reading,
    rst,
    seen,
    source,
    tutorials,
)

from trref import catalog, checks  # noqa: E402

MODULE = '''"""A title.

The idea,

.. math::
    :label: m-one

    a = b

**Then more.** It is:

.. math::
    :label: m-two

    c = d

**Where implementations differ.** Nowhere.

**Provenance.** Read.

Author, *Title*.
"""


def f(x):
    a = g(
        x,
    )  # eq. m-one
    # eq. m-two
    b = a
    c = b

    return c
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "a_module_for_the_site.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return source.read("a_module_for_the_site")


def test_a_tag_covers_its_statement_or_what_follows(module):
    text = {s.label: "\n".join(module.lines[s.first - 1 : s.last]) for s in module.spans}
    assert text["m-one"].strip().startswith("a = g(") and text["m-one"].endswith("# eq. m-one")
    assert text["m-two"].split("\n")[1:] == ["    b = a", "    c = b"]
    assert {s.function for s in module.spans} == {"f"}


def test_the_docstring_in_parts(module):
    assert module.title == "A title" and module.labels == ("m-one", "m-two")
    assert module.parts[0].text.startswith("The idea,") and module.parts[1].text.startswith("**Then more.** It is:")
    assert module.sections == {"Where implementations differ": "Nowhere.", "Provenance": "Read."}
    assert module.citation == "Author, *Title*."


def test_every_equation_of_the_catalogue_has_code():
    for method in catalog.methods():
        module = source.read(method.module.__name__)
        for label in module.labels:
            home = source.home(module, label)
            assert home.lines[home.of(label)[0].first - 1].strip()


def test_every_contract_says_how_closely_it_is_held():
    contracts = {c.__name__ for group in (checks.EVERYWHERE, *checks.CONTRACTS.values()) for c in group}
    assert contracts <= set(pages.FIGURES)


def test_claims_of_a_tutorial(tmp_path):
    path = tmp_path / "plot_m.py"
    path.write_text(
        '"""\nTitle\n=====\n\nSummary of :doc:`plot_n`.\n"""\n\n# %%\n# .. claim:: It is better,\n#     always.\n'
        "#     :experiment: tiny\n#     :controls: one,\n#         two\n#     :shown: no: it is not\n\n"
        'assert 1 < 2, "one is less"\nassert 2 > 1\n'
    )
    tutorial = tutorials.read_file(path)
    (claim,) = tutorial.claims
    assert claim.text == "It is better, always."
    assert claim.options == {"experiment": "tiny", "controls": "one, two", "shown": "no: it is not"}
    assert (
        tutorial.title == "Title" and tutorial.summary == f"Summary of :doc:`/auto_tutorials/{tmp_path.name}/plot_n`."
    )
    assert tutorial.assertions == ("one is less", "``2 > 1``")


def test_notebooks_hold_no_markup_of_this_site():
    text = (
        "As ``f`` in :doc:`plot_ppo`, or :doc:`the other <plot_x>`:\n\n"
        ".. claim:: It is better,\n    always.\n    :experiment: tiny\n    :shown: no: it\n        is not\n\n"
        "And more.\n"
    )
    assert notebooks.markdown(text) == (
        "As `f` in *Clipping is not a trust region*, or the other:\n\n"
        "**The claim, and what this page shows.** It is better, always.\n\n"
        "- experiment: tiny\n- shown: no: it is not\n\nAnd more.\n"
    )


def test_the_map_of_limits_groups_arrows_by_what_they_reach():
    sources = figures.reached([("b.b", "a.a"), ("c.c", "b.b"), ("c.c", "a.a"), ("c.c", "a.a")])
    assert list(sources.items()) == [("a.a", ["b.b", "c.c"]), ("b.b", ["c.c"])]
    drawn = figures.limits_map(sources, lambda name: f"<{name}>")
    words = [line.strip() for line in drawn.splitlines() if "<" in line]
    assert words == ["<a.a>", "<b.b> <c.c>", "<b.b>", "<c.c>"]


def test_recoloured_figures_are_drawn_in_the_theme_s_ink():
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    from trref.experiments.figures import INKS, describe, recolour, use_style

    plt = use_style()
    figure, axis = plt.subplots()
    axis.plot([1, 2], label="a line")
    axis.set(xlabel="steps", ylabel="value", title="A title")
    axis.legend()
    for ink in INKS.values():
        recolour(figure, ink)
        figure.canvas.draw()
        drawn = [axis.xaxis.label, axis.title, *axis.get_xticklabels(), *axis.get_legend().get_texts()]
        assert {to_hex(artist.get_color()) for artist in drawn} == {ink}
    assert describe(figure) == "Figure: A title: value against steps (a line)"
    plt.close(figure)


def test_titles_keep_within_the_place_of_their_axes():
    pytest.importorskip("matplotlib")
    from trref.experiments.figures import use_style

    plt = use_style()
    figure, axes = plt.subplots(1, 4, figsize=(8, 2))
    for axis in axes:
        axis.set(aspect="equal", title="a title of several words that is too wide for a quarter")
    axes[0].set_title("short")
    figures.fit_titles(figure)
    figure.canvas.draw()
    assert axes[0].get_title() == "short" and "\n" in axes[1].get_title()
    for axis in axes:
        box = axis.title.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.width <= figure.bbox.width / 4
    shown = figures.whole(figure)  # in inches
    for axis in axes:
        box = axis.get_tightbbox().transformed(figure.dpi_scale_trans.inverted())
        assert shown.x0 <= box.x0 and box.x1 <= shown.x1 and shown.y0 <= box.y0 and box.y1 <= shown.y1
    plt.close(figure)
    assert figures.whole(plt.figure()) is None
    plt.close("all")


def test_plain_text_is_no_markup():
    assert rst.inline("clip_grad_value_, a*b `c` |d| \\\\ e_") == r"clip_grad_value\_, a\*b \`c\` \|d\| \\\\ e\_"


def test_measurements_of_any_kind_have_a_row():
    """Those with a peer, on some number of threads, and those of the package alone."""
    data = json.loads((ROOT / "docs" / "bench.json").read_text(encoding="utf-8"))
    table = ledgers.bench()
    assert all(rst.inline(entry["row"]) in table for entry in data["rows"])
    assert {"peer" in entry for entry in data["rows"]} == {True, False}


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda method: method.slug)
def test_every_function_has_a_picture_that_is_not_empty(method):
    for record in method.functions:
        drawn, words = portraits.panels(record)
        assert drawn and not any(map(drawing.is_empty, drawn)) and words.endswith("."), record.name
        for panel in drawn:
            assert panel.title and panel.xlabel and panel.ylabel, record.name
        if not isinstance(record, catalog.Estimator | catalog.Sampler):
            # something happens: numbers that are not all the same, somewhere
            ys = [p.values if isinstance(p, drawing.Heat) else c.y for p in drawn for c in getattr(p, "curves", (p,))]
            assert any(len(set(map(float, y[y == y]))) > 1 for y in ys), record.name


def test_a_token_objective_is_drawn_against_the_ratio_for_both_signs():
    (up, down), _ = portraits.panels(catalog.find("ppo.clipped_surrogate"))
    assert (up.title, down.title) == ("positive advantage", "negative advantage")
    weight = {round(float(x), 3): y for x, y in zip(up.curves[0].x, up.curves[0].y, strict=True)}
    low, high = min(weight), max(weight)
    assert weight[low] > 0 and weight[high] == 0  # below the interval it still earns, beyond it no more
    fall = {round(float(x), 3): y for x, y in zip(down.curves[0].x, down.curves[0].y, strict=True)}
    assert fall[low] == 0 and fall[high] < 0
    assert any(curve.dashed and "without the minimum" in curve.label for curve in (*up.curves, *down.curves))


def test_curves_that_lie_on_one_another_are_one():
    import numpy as np

    line = drawing.Curve(np.arange(3.0), np.arange(3.0), "a")
    other = drawing.Curve(np.arange(3.0), np.ones(3), "c")
    merged = portraits._merged([(line,), (drawing.Curve(line.x, line.y, "b"),), (other,)])
    assert [curve[0].label for curve in merged] == ["a; the same here: b", "c"]


def test_a_plot_says_its_numbers():
    import numpy as np

    panel = drawing.Panel("t<", "x", "y", (drawing.Curve(np.array([0.0, 1.0]), np.array([1e-6, 1.0]), "a"),), log=True)
    text = drawing.figure([panel], "words")
    assert "t&lt;" in text and ">1e−4<" in text and ">0.5<" not in text and 'class="k0"' in text
    assert drawing.is_empty(drawing.Panel("t", "x", "y", (drawing.Curve(np.zeros(2), np.full(2, np.nan), "a"),)))


def test_lines_of_code_stand_once_with_the_marks_of_their_equations():
    module = source.read("trref.tokens.fiberpo")
    rows = [labels for _, labels in pages._rows(module)]
    assert [label for labels in rows for label in labels] == list(module.labels)
    (shared,) = [labels for labels in rows if len(labels) > 1]
    text = listings.beside(module, shared)
    numbers = [part.split(">")[1].split("<")[0] for part in text.split('class="ln"')[1:]]
    assert len(numbers) == len(set(numbers))
    assert all(text.count(f'href="#equation-{label}"') == 1 for label in shared)


def test_ideas_list_methods_of_the_catalogue_once():
    assert ideas.unknown() == [] and len(ideas.known()) == len(set(ideas.known()))
    for family, methods in pages.families().items():
        grouped = [m.slug for some in ideas.grouped(family, methods).values() for m in some]
        assert sorted(grouped) == sorted(m.slug for m in methods)


def test_what_a_page_needs_is_read_before_it():
    gspo, grpo, cg = (catalog.method(*place) for place in (("tokens", "gspo"), ("tokens", "grpo"), ("krylov", "cg")))
    assert grpo in reading.before(gspo) and gspo in reading.after(grpo) and gspo not in reading.before(grpo)
    assert "steihaug" in [m.slug for m in reading.after(cg)]  # of another family: an import
    slugs = [m.slug for m in reading.ordered(m for m in catalog.methods() if m.family == "sharpness")]
    assert slugs.index("sam") < slugs.index("asam")


def test_a_file_that_was_seen_is_linked_at_its_version():
    text = seen.linked("TRL 1.16.0 trl/trainer/a_b.py, x=*; openai/baselines ppo2/model.py; o/r, sub/f.py (0abc123)")
    assert "`trl/trainer/a_b.py <https://github.com/huggingface/trl/blob/v1.16.0/trl/trainer/a_b.py>`__, x=" in text
    assert "/openai/baselines/blob/HEAD/baselines/ppo2/model.py>" in text
    assert "<https://github.com/o/r/blob/0abc123/sub/f.py>" in text and "x=\\*" in text
    assert seen.linked("a common slip") == "a common slip"
    linked = [d for r in catalog.records() for d in r.deviations if "https" in seen.linked(d.seen_in)]
    assert len(linked) > 100


def test_the_search_knows_equations_and_arguments():
    script = names.script()
    known = json.loads(script.removeprefix("window.TRREF = ").rstrip(";\n"))
    assert ["gspo-ratio", "Group sequence policy optimisation (GSPO), equation 1"] in [
        e[:2] for e in known["equations"]
    ]
    arguments = {name: words.split() for name, words, _ in known["functions"]}
    assert {"log_prob", "mask", "clip_high"} <= set(arguments["gspo.gspo"])
    assert "Group Sequence Policy Optimization" in known["words"]["methods/tokens/gspo.html"]


def test_a_sitemap_has_whole_addresses():
    text = names.sitemap("https://docs.example.org/trref/", ["index.html", "methods/a.html"])
    assert "<loc>https://docs.example.org/trref/methods/a.html</loc>" in text and text.count("<url>") == 2


def test_the_citation_file_names_this_version():
    import trref

    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'version: "{trref.__version__}"' in text and text.startswith("cff-version: 1.2.0")
    assert "title:" in text and "authors:" in text


def test_a_tutorial_leads_to_its_method_and_equations():
    words = pages.links_of_tutorial("tokens", "gspo")
    assert ":eq:`gspo-objective`" in words or ":eq:`gspo-" in words
    assert "</methods/tokens/gspo>" in words and "</methods/tokens/grpo>" in words


def test_every_method_page_says_how_to_cite_and_to_ask():
    method = catalog.method("tokens", "gspo")
    text = pages._method(method)
    assert "Cite the paper" in text and "@misc{zheng2025group" in text and "trref verify gspo.gspo yours.py:f" in text
    assert "**Before this page:**" in text and "**After it:**" in text
