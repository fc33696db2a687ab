"""Derivations belong to pages, and refer to equations that exist."""

import pathlib
import re

import pytest

from trref import catalog

FILES = sorted((pathlib.Path(__file__).parents[2] / "docs" / "derivations").glob("*.rst"))
PLACES = {slug: family for family, slug in catalog.places()}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_derivation_belongs_to_a_method(path):
    text = path.read_text(encoding="utf-8")
    docs = catalog.method(PLACES[path.stem], path.stem).module.__doc__
    assert len(text) > 1500 and text.count("**") >= 8
    assert ":label:" not in text  # two equations of one name
    assert set(re.findall(r":eq:`([^`]+)`", text)) <= set(re.findall(r":label:\s*(\S+)", docs))
    for family, slug in re.findall(r":doc:`/methods/(\w+)/(\w+)`", text):
        assert PLACES[slug] == family
    assert text.count(":math:`") == len(re.findall(r":math:`[^`]+`", text))
