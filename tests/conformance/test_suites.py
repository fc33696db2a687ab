"""The checks in other people's test suites, and `trref show`."""

import subprocess
import sys

import numpy as np
import pytest

from trref import catalog, cli
from trref.conformance import assert_conforms, parametrize_with_cases
from trref.conformance.suites import cases_of


def _mine(lp, lo, adv, eps):
    r = np.exp(lp - lo)
    return -np.minimum(r * adv, np.clip(r, 1 - eps, 1 + eps) * adv).mean()


NAMES = {"log_prob": "lp", "old_log_prob": "lo", "advantage": "adv", "clip": "eps"}


@parametrize_with_cases("ppo.clipped_surrogate")
def test_two_lines(case):
    assert_conforms(case, _mine, names=NAMES)


def test_a_wrong_one_fails_with_numbers():
    case = cases_of("ppo.clipped_surrogate")[0]
    with pytest.raises(AssertionError, match=r"value is .*, expected"):
        assert_conforms(case, lambda lp, lo, adv, eps: 2 * _mine(lp, lo, adv, eps), names=NAMES)


def test_ids_can_be_read(tmp_path):
    file = tmp_path / "test_theirs.py"
    file.write_text(
        "from trref.conformance import assert_conforms, parametrize_with_cases\n"
        "from trref.policy.gae import gae\n\n"
        "@parametrize_with_cases('gae.gae', settings=['default'])\n"
        "def test_mine(case):\n    assert_conforms(case, gae)\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", tmp_path, file]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "test_mine[default-size_4-seed_0]" in result.stdout
    assert "test_mine[default-edge_ends_on_the_last_step]" in result.stdout


def test_show(capsys):
    for name in ("ppo.clipped_surrogate", "cg", "adam.update"):
        assert cli.main(["show", name]) == 0
        record, out = catalog.find(name), capsys.readouterr().out
        for deviation in record.deviations:
            assert deviation.name in out
        assert ":label:" in out and "settings" in out and "checked" in out and "def " not in out.splitlines()[0]
    assert cli.main(["show", "nothing"]) == 2
