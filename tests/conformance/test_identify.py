"""Which catalogued function is it?"""

import functools
import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import full

from trref import catalog, cli
from trref.conformance import LoadError, Options, identify
from trref.conformance.identify import candidates, equal_candidates


def _surrogate(log_prob, old_log_prob, advantage):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 0.9, 1.1) * advantage).mean()


def test_a_setting_is_found():
    found = identify(_surrogate, "surrogate")
    assert [m.candidate.text for m in found.exact] == ["ppo.clipped_surrogate [atari]"]
    assert "EXACT" in str(found) and "compared: value" in str(found)


def test_a_deviation_is_found():
    deviation = catalog.find("ppo.clipped_surrogate").deviations[0]
    found = identify(deviation.f, "surrogate")
    assert found.exact[0].candidate.deviation is deviation
    assert found.compared == "gradient and value"


def test_nearest():
    found = identify(
        lambda log_prob, old_log_prob, advantage: 1.001 * _surrogate(log_prob, old_log_prob, advantage), "surrogate"
    )
    assert not found.exact and "nearest: ppo.clipped_surrogate [atari]" in str(found) and "parts on" in str(found)


def test_a_factor_and_a_constant():
    def tripled(log_prob, old_log_prob, advantage):
        return 3 * _surrogate(log_prob, old_log_prob, advantage)

    def narrow(log_prob, old_log_prob, advantage):
        r = np.exp(log_prob - old_log_prob)
        return -np.minimum(r * advantage, np.clip(r, 0.85, 1.15) * advantage).mean()

    found = identify(tripled, "surrogate")
    assert not found.exact and "but all with a constant factor of 3" in str(found), str(found)
    found = identify(narrow, "surrogate")
    assert "nearest: ppo.clipped_surrogate: " in str(found) and "but all with clip = 0.15" in str(found), str(found)
    assert identify(narrow, "surrogate", Options(reference={"clip": 0.15})).exact


def test_its_own_constants():
    """A constant that it has by the same name is no reason to part from the catalogue's."""
    deviation = catalog.find("ppo.clipped_surrogate").deviations[0]

    def cut(log_prob, old_log_prob, advantage, clip=0.3):
        return deviation.f(log_prob, old_log_prob, advantage, clip=clip)

    found = identify(cut, "surrogate")
    assert [m.candidate.text.split(" (")[0] for m in found.exact] == [
        "ppo.clipped_surrogate, deviation 'without the minimum'"
    ]
    assert "100 % of the cases" in str(found)
    assert found.exact[0].candidate.text.endswith("with its clip = 0.3")

    def counts(log_prob, old_log_prob, advantage, clip=float("nan"), steps=10**12):
        return _surrogate(log_prob, old_log_prob, advantage)

    assert not any("its clip" in m.candidate.text for m in identify(counts, "surrogate").matches)


def test_calls_that_do_not_come_back(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import os\n\ndef f(log_prob, old_log_prob, advantage):\n    os._exit(3)\n")
    with pytest.raises(LoadError, match=r"ended its process \(exit status 3\)"):
        identify(f"{path}:f", "surrogate")


INTERFACES = sorted(
    {
        r.interface.name.split(" ")[0]
        for r in catalog.records()
        if r.interface and isinstance(r, catalog.Objective | catalog.Transform | catalog.Estimator)
    }
)
groups_of = functools.cache(equal_candidates)


@pytest.mark.parametrize("interface", INTERFACES)
def test_equal_members_are_declared(interface):
    """What `identify` cannot tell apart, a declared limit makes equal."""
    groups = groups_of(interface)
    assert sum(len(group) for group in groups) == len(candidates(interface))
    for group in groups:
        # a deviation of one function may be another function as published; two published ones need a declared limit
        published = [c for c in group if c.deviation is None]
        for a in published[1:]:
            assert any(full.declared(a, b) for b in published if a is not b), [c.text for c in group]


FUNCTIONS = [(i, name) for i in INTERFACES for name in dict.fromkeys(c.record.name for c in candidates(i))]


@pytest.mark.parametrize(("interface", "name"), FUNCTIONS, ids=[f"{i}-{n}" for i, n in FUNCTIONS])
def test_a_function_is_identified_as_itself(interface, name):
    """Up to members that are equal. (Every setting and deviation is tried by ``tools/full.py identify``.)"""
    member = next(c for c in candidates(interface) if c.record.name == name and c.deviation is None)
    group = next({c.text for c in g} for g in groups_of(interface) if any(c.text == member.text for c in g))
    found = {m.candidate.text for m in identify(full.as_function(member), interface).exact}
    assert member.text in found and found <= group


def test_command(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef f(lp, lo, a):\n    return -np.mean(np.exp(lp - lo) * a)\n")
    mapping = [x for pair in ("log_prob=lp", "old_log_prob=lo", "advantage=a") for x in ("--map", pair)]
    out = tmp_path / "found.json"
    status = cli.main(["identify", f"{path}:f", "--interface", "surrogate", *mapping, "--json", str(out)])
    assert status == 0 and "ppo.unclipped_surrogate" in capsys.readouterr().out
    assert json.loads(out.read_text())["matches"][0]["name"] == "ppo.unclipped_surrogate"
    assert cli.main(["identify", f"{path}:f", "--interface", "nothing"]) == 2
    assert "there are" in capsys.readouterr().err
    assert cli.main(["identify", f"{path}:f", "--interface", "surrogate"]) == 2
