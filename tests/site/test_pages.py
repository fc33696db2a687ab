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
    for width in (1000, 1280, 1400, 390):
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
