"""Old names: the command answers them, and the change log lists them."""

import pathlib
import re

import pytest

from trref import catalog
from trref.catalog.renamed import RENAMED

LISTED = pathlib.Path(__file__).resolve().parent.parent / "CHANGELOG.md"


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_answered_with_the_new_one(old):
    with pytest.raises(ValueError, match=f"{re.escape(old)} is now called {re.escape(RENAMED[old])}"):
        catalog.find(old)
    assert catalog.find(RENAMED[old]).name == RENAMED[old]


def test_the_change_log_lists_them():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", LISTED.read_text(encoding="utf-8"), re.MULTILINE)
    assert RENAMED.items() <= dict(rows).items()
