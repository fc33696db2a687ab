"""Third-party code in a child process: whatever it does, the run goes on and the verdict is clear."""

import json
import pathlib

import pytest

from trref import cli
from trref.conformance import LoadError, verify

NAME = "ppo.clipped_surrogate"
HOSTILE = """
import os, sys, time
import numpy as np

def right(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage).mean()

def raises(log_prob, old_log_prob, advantage, clip=0.2):
    raise RuntimeError("not today")

def prints(log_prob, old_log_prob, advantage, clip=0.2):
    print("ratio", np.exp(log_prob - old_log_prob))
    os.write(1, b"straight to the file descriptor")
    return right(log_prob, old_log_prob, advantage, clip)

def mutates(log_prob, old_log_prob, advantage, clip=0.2):
    value = right(log_prob, old_log_prob, advantage, clip)
    advantage -= advantage.mean()
    return value

def shape(log_prob, old_log_prob, advantage, clip=0.2):
    return log_prob

def nan(log_prob, old_log_prob, advantage, clip=0.2):
    return float("nan")

def nothing(log_prob, old_log_prob, advantage, clip=0.2):
    pass

def text(log_prob, old_log_prob, advantage, clip=0.2):
    return "0.5"

def exits(log_prob, old_log_prob, advantage, clip=0.2):
    sys.exit(3)

def dies(log_prob, old_log_prob, advantage, clip=0.2):
    os._exit(3)

def hangs(log_prob, old_log_prob, advantage, clip=0.2):
    if len(log_prob) == 8:
        time.sleep(60)
    return right(log_prob, old_log_prob, advantage, clip)

def other_arguments(logits, labels):
    return 0.0

def one_more(log_prob, old_log_prob, advantage, temperature, clip=0.2):
    return temperature * right(log_prob, old_log_prob, advantage, clip)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "hostile.py"
    path.write_text(HOSTILE)
    return path


def test_a_right_one(file):
    verdict = verify(NAME, f"{file}:right")
    assert verdict.conforms and not verdict.notes


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "raised RuntimeError: not today"),
        ("mutates", "changed its input advantage in place"),
        ("shape", "value has shape"),
        ("nan", "value is NaN"),
        ("nothing", "returned NoneType, expected an array or a number"),
        ("text", "returned a text"),
        ("exits", "raised SystemExit: 3"),
    ],
)
def test_a_clear_verdict(file, function, message):
    verdict = verify(NAME, f"{file}:{function}")
    assert not verdict.conforms and message in str(verdict), str(verdict)
    assert verdict.cases > 20, "the run went on"


def test_printing_is_noted_and_harmless(file):
    verdict = verify(NAME, f"{file}:prints")
    assert verdict.conforms and "prints while it computes" in str(verdict)


def test_code_that_ends_its_process(file):
    verdict = verify(NAME, f"{file}:dies")
    assert "ended its process (exit status 3)" in str(verdict) and verdict.cases == 3


def test_code_that_never_returns(file):
    verdict = verify(NAME, f"{file}:hangs", limit=0.5)
    assert not verdict.conforms and "did not return within 0.5 s" in str(verdict)
    assert any(not f.error for f in verdict.failures) is False
    assert verdict.cases > 3, "other cases were run"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("other_arguments", "expected a function of log_prob, old_log_prob, advantage; found one of logits, labels"),
        ("one_more", "nothing fills temperature"),
        ("missing", "has no function 'missing'; it has"),
    ],
)
def test_what_does_not_fit(file, function, message):
    with pytest.raises(LoadError, match=message):
        verify(NAME, f"{file}:{function}")


def test_a_module_that_cannot_be_imported(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package_anywhere")
    with pytest.raises(LoadError, match=r"importing .*broken\.py failed: ModuleNotFoundError"):
        verify(NAME, f"{path}:f")


def test_json(file, tmp_path, capsys):
    out = tmp_path / "verdict.json"
    status = cli.main(["verify", NAME, f"{file}:one_more", "--set", "temperature=2.0", "--json", str(out)])
    content = json.loads(out.read_text())
    assert status == 1 and not content["conforms"] and "factor of 2" in content["explanations"][0]["text"]
    assert pathlib.Path(out).stat().st_size > 100 and "factor of 2" in capsys.readouterr().out
