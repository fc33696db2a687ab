"""The bibliography: one file an entry, read without a parser of BibTeX."""

import re

import pytest

from trref import catalog
from trref.catalog import citations


@pytest.mark.parametrize("key", citations.keys())
def test_every_entry_can_be_read(key):
    entry = citations.citation(key)
    assert entry.bibtex.startswith("@") and f"{{{key}," in entry.bibtex.splitlines()[0]
    assert 1900 < entry.year < 2030 and all(entry.authors)
    for text in (entry.title, *entry.authors):
        assert text == text.strip() and not set(text) & set("{}\\")


def test_every_method_cites_an_entry_and_no_entry_is_left_over():
    assert {method.key for method in catalog.methods()} == set(citations.keys())


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda m: m.slug)
def test_page_and_entry_are_of_one_paper(method):
    """The last paragraph of a page cites what the entry says: one key for two papers would show here."""
    cited = re.findall(r"arXiv:(\d{4}\.\d{4,5}|[a-z.-]+/\d{7})", method.module.__doc__.strip().split("\n\n")[-1])
    assert not cited or not method.arxiv or method.arxiv in cited


def test_accents_and_braces():
    assert (
        citations.plain(r"{ASAM} by Csisz{\'a}r, \v{S}, G\"odel, Gon{\c c}alves")
        == "ASAM by Csiszár, Š, Gödel, Gonçalves"
    )


def test_an_unknown_key_is_named():
    with pytest.raises(ValueError, match=r"key must name .* references/nobody\.bib"):
        citations.citation("nobody")
