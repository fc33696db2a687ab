"""Every page of the built site, as a reader meets it: python3 tools/docs.py --test."""

import functools
import html.parser
import os
import pathlib
import urllib.parse

import pytest

if "TRREF_SITE" not in os.environ:
    pytest.skip("the page test needs the built site: python3 tools/docs.py --test", allow_module_level=True)

SITE = pathlib.Path(os.environ["TRREF_SITE"]).resolve()
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_static" not in path.parts)
INSPECT = pathlib.Path(__file__).with_name("inspect_page.js").read_text(encoding="utf-8")
METHOD = "methods/policy/ppo.html"


def test_there_are_pages():
    assert {"index.html", "search.html", "genindex.html", METHOD, "verify_your_own.html"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_page(page, browser):
    """No complaint, no request off the machine, everything set, nothing too wide, contrast in both themes."""
    browser.resize(1280)
    browser.open((SITE / page).as_uri())
    browser.evaluate(
        "document.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>')"
    )
    found = []
    for theme in ("light", "dark"):
        browser.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
        found += browser.evaluate(f"({INSPECT})({theme!r})")
    for width in (1280, 1000, 1400, 390):
        if width != 1280:  # which it has
            browser.resize(width)
            browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        over = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            wide = browser.evaluate(WIDEST)
            found.append(f"{over} px of horizontal scroll at {width} px: {wide}")
        if cut := browser.evaluate(CUT):
            found.append(f"cut at the right at {width} px: {cut}")
        found += [f"{words} at {width} px" for words in browser.evaluate(f"({COVERED})()")]
    found += browser.complaints()
    if found:
        pytest.fail("\n".join(found), pytrace=False)


WIDEST = """[...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .filter((e) => { for (let p = e.parentElement; p; p = p.parentElement)
        if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return false; return true; })
    .map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""}`).slice(0, 6).join(", ")"""


CUT = """[...document.querySelectorAll(".bd-article *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .filter((e) => !e.closest("svg, mjx-container, .visually-hidden, .highlight"))
    .filter((e) => { for (let p = e; p; p = p.parentElement)
        if (p.scrollWidth > p.clientWidth && ["auto", "scroll"].includes(getComputedStyle(p).overflowX)
            && !p.matches(".bd-main, .bd-content, .bd-article, .bd-article-container, body, html")) return false;
      return e.getBoundingClientRect().width > 0; })
    .map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""}`).slice(0, 6).join(", ")"""


COVERED = pathlib.Path(__file__).with_name("covered.js").read_text(encoding="utf-8")


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(a for a in (attributes.get("id"), attributes.get("name")) if a)
        for name in ("href", "src"):
            if attributes.get(name):
                self.links.append(attributes[name])


@functools.cache
def _parsed(path):
    parser = _Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    """Every link inside the site leads somewhere, anchors included; nothing but links leads outside."""
    broken = []
    for link in _parsed(SITE / page).links:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or link.startswith("//"):
            continue
        target = SITE / page if not parts.path else (SITE / page).parent / urllib.parse.unquote(parts.path)
        if target.is_dir():
            target /= "index.html"
        if not target.is_file():
            broken.append(f"{link}: no such file")
        elif parts.fragment and target.suffix == ".html":
            anchor = urllib.parse.unquote(parts.fragment)
            if anchor not in _parsed(target.resolve()).anchors:
                broken.append(f"{link}: no such anchor")
    if broken:
        pytest.fail("\n".join(sorted(set(broken))), pytrace=False)


EQUATION = "document.querySelector('.eq-math div.math[id]')"
IN_VIEW = "((e) => { const b = e.getBoundingClientRect(); return b.bottom > 0 && b.top < innerHeight; })"


def test_an_equation_leads_to_its_code_and_back(browser):
    browser.resize(1280)
    browser.open((SITE / METHOD).as_uri())
    browser.evaluate(f"{EQUATION}.querySelector('mjx-container').click()")
    lines = browser.evaluate("document.querySelectorAll('.listing .cl.hit').length")
    assert lines >= 1 and browser.evaluate(f"{IN_VIEW}(document.querySelector('.listing .cl.hit'))")
    assert not browser.evaluate(f"{IN_VIEW}({EQUATION})")
    browser.evaluate("document.querySelector('.listing .cl.hit .src').click()")
    assert browser.evaluate(f"{IN_VIEW}({EQUATION}) && {EQUATION}.classList.contains('hit')")


def test_mathematics_and_code_stand_side_by_side_where_there_is_room(browser):
    browser.open((SITE / METHOD).as_uri())
    boxes = (
        "(() => { const box = (s) => document.querySelector(s).getBoundingClientRect();"
        " const [a, b] = ['.eq-math', '.eq-code'].map(box);"
        " return [a.right, b.left, a.bottom, b.top]; })()"
    )
    browser.resize(1280)
    right, left, *_ = browser.evaluate(boxes)
    assert right <= left
    browser.resize(390)
    *_, bottom, top = browser.evaluate(boxes)
    assert bottom <= top


def test_search_works_from_the_file_system(browser):
    browser.resize(1280)
    browser.open(f"{(SITE / 'search.html').as_uri()}?q=surrogate")
    count = browser.evaluate(
        "new Promise((done) => { const look = (left) => { const n ="
        " document.querySelectorAll('#search-results li').length;"
        " n || !left ? done(n) : setTimeout(() => look(left - 1), 100); }; look(100); })"
    )
    assert count >= 1
    assert not browser.complaints()


def test_a_method_is_found_by_typing(browser):
    """From the landing page to the gradient of GSPO: type, Enter, and there it is beside its code."""
    browser.resize(1280)
    browser.open((SITE / "index.html").as_uri())
    assert browser.evaluate("document.querySelector('.filter-box input').getBoundingClientRect().top") < 1000
    rows = "[...document.querySelectorAll('table.finder tbody tr')].filter((row) => !row.hidden)"
    every = browser.evaluate(f"{rows}.length")
    assert every >= 100
    press = "new KeyboardEvent('keydown', {{ key: '{}', bubbles: true, cancelable: true }})".format
    browser.evaluate(f"document.body.dispatchEvent({press('/')})")
    assert browser.evaluate("document.activeElement.matches('.filter-box input')")
    browser.evaluate(
        "(() => { const box = document.activeElement; box.value = 'gspo-gradient';"
        " box.dispatchEvent(new Event('input')); })()"
    )
    assert browser.evaluate(f"{rows}.map((row) => row.cells[0].textContent.trim())") == [
        "Group sequence policy optimisation (GSPO)"
    ]
    browser.evaluate(f"document.activeElement.dispatchEvent({press('ArrowDown')})")
    assert browser.evaluate("document.activeElement.href").endswith("methods/tokens/gspo.html")


def test_rows_are_found_by_year_family_and_provenance(browser):
    browser.open((SITE / "index.html").as_uri())
    count = (
        "((words) => { const box = document.querySelector('.filter-box input'); box.value = words;"
        " box.dispatchEvent(new Event('input'));"
        " return document.querySelectorAll('table.finder tbody tr:not([hidden])').length; })"
    )
    everything, some, none = (browser.evaluate(f"{count}({words!r})") for words in ("", "tokens 2025", "no such word"))
    assert everything > some > 5 and none == 0


def test_search_finds_equations_and_arguments(browser):
    named = "[...document.querySelectorAll('section.named a')].map((a) => a.textContent)"
    browser.open(f"{(SITE / 'search.html').as_uri()}?q=ppo-clipped")
    assert "ppo-clipped" in browser.evaluate(named)
    browser.open(f"{(SITE / 'search.html').as_uri()}?q=clip_high%20mask")
    assert "gspo.gspo" in browser.evaluate(named)
    assert not browser.complaints()


def test_ledgers_filter_and_link_to_rows(browser):
    browser.resize(1280)
    page = (SITE / "conformance_ledger.html").as_uri()
    browser.open(page)
    anchor = browser.evaluate("[...document.querySelectorAll('table.deviations a.row-link')].at(-1).id")
    left = browser.evaluate(
        "(() => { const box = document.querySelectorAll('.filter-box input')[1]; box.value = 'TRL grpo';"
        " box.dispatchEvent(new Event('input'));"
        " return document.querySelectorAll('table.deviations tbody tr:not([hidden])').length; })()"
    )
    assert 1 <= left <= 60  # what TRL's GRPO deviates in
    browser.open(f"{page}#{anchor}")
    assert browser.evaluate(f"{IN_VIEW}(document.getElementById({anchor!r}))")


def test_pages_describe_themselves():
    described = [page for page in PAGES if 'name="description"' in (SITE / page).read_text(encoding="utf-8")]
    assert set(page for page in PAGES if page.startswith("methods/")) <= set(described)


FAULTS = {
    "code is cut": "document.querySelector('.beside pre').style.cssText = 'overflow: auto; padding-right: 0';"
    " document.querySelectorAll('.cl').forEach((e) => e.style.whiteSpace = 'pre')",
    "an equation is cut": "document.querySelector('div.math mjx-container').style.maxWidth = '20px'",
    "a number covers": "document.querySelector('div.math .eqno').style.transform = 'translateX(-300px)'",
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_is_cut_or_covered_is_noticed(browser, words):
    browser.resize(390)
    browser.open((SITE / METHOD).as_uri())
    assert browser.evaluate(f"({COVERED})()") == []
    browser.evaluate(f"(() => {{ {FAULTS[words]} }})()")
    assert any(words in found for found in browser.evaluate(f"({COVERED})()"))
