"""Real public implementations, judged by `trref verify`; the same verdicts stand in the conformance ledger."""

import json
import pathlib

import pytest

from tests.peers import (
    judged,
    judged_checkouts,
    judged_libraries,
    judged_losses,
    judged_schedulers,
    judged_trainers,
    trainers,
)
from trref.conformance import verify

pytestmark = pytest.mark.peer
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODULES = judged, judged_trainers, judged_losses, judged_libraries, judged_schedulers, judged_checkouts
JUDGED = tuple(entry for module in MODULES for entry in module.JUDGED)
IMPORTED = {"POT": "ot"}  # packages that are imported by another name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("judged", [j for j in JUDGED if not j.missing], ids=lambda j: j.what)
def test_verdict(judged):
    if judged.trainer:
        if trainers.absent(judged.package):
            pytest.skip(f"no files of {judged.package} in {trainers.FOLDER}: tools/test.py --peers")
        pytest.importorskip("torchrl")  # brings tensordict
        pytest.importorskip("trl")  # brings transformers
    elif not isinstance(judged, judged_checkouts.Checkout):
        pytest.importorskip(IMPORTED.get(judged.package, judged.package))
    verdict = verify(judged.function, judged.make(), judged.options)
    assert judged.expects(verdict), str(verdict)
    assert judged.explained in str(verdict)


def test_the_ledger_holds_them_all():
    files = (ROOT / "docs" / "ledger").glob("*.json")
    ledger = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    assert all(row["function"].partition(".")[0] == method for method, rows in ledger.items() for row in rows)
    rows = {(row["implementation"], row["function"]): row["verdict"] for rows in ledger.values() for row in rows}
    expected = {(j.what, j.function): j.verdict for j in JUDGED}
    assert rows == expected, "run .venv/bin/python tools/ledger.py"
