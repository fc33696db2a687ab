"""The bibliography: one file an entry, read without a parser of BibTeX."""

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


def test_accents_and_braces():
    assert (
        citations.plain(r"{ASAM} by Csisz{\'a}r, \v{S}, G\"odel, Gon{\c c}alves")
        == "ASAM by Csiszár, Š, Gödel, Gonçalves"
    )


def test_an_unknown_key_is_named():
    with pytest.raises(ValueError, match=r"key must name .* references/nobody\.bib"):
        citations.citation("nobody")
