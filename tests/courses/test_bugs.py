"""Find the bug: a mistake that shows in some cases, and is repaired in few lines."""

import pytest

from trref import catalog, cli
from trref.courses import bugs
from trref.courses.exercise import Exercise
from trref.courses.judge import Limits, judge
from trref.courses.standalone import Unbundled, bundle

QUICK = Limits(call=10.0, total=120.0, explain=0.0)


def cheap():
    """Objectives and estimators from all over the catalogue: of three in four a mistake can be handed out."""
    kinds = catalog.Objective | catalog.Estimator
    records = [r for r in catalog.records() if isinstance(r, kinds) and r.tolerance == 0 and len(r.settings) < 7]
    return [records[k * len(records) // 76].name for k in range(76)]


def of(name, difficulty, seed=0):
    return Exercise(name, 3, bug={"difficulty": difficulty, "seed": seed})


@pytest.mark.parametrize("half", range(2))
def test_fifty_functions_have_mistakes_of_three_difficulties(half):
    """With the mistake some cases fail, as many as was promised where there is such a mistake; without it none does."""
    found, exact = 0, 0
    for name in cheap()[half::2]:
        try:
            shares = [bugs.bug(name, difficulty).share for difficulty in bugs.DIFFICULTIES]
        except ValueError as error:
            assert "one file" in str(error) or "handed out" in str(error)
            continue
        assert all(shares) and shares[0] >= shares[2]
        assert bugs.share(name, bugs.repaired(name)) == 0, name
        found += 1
        exact += all(low < s <= high for s, (low, high) in zip(shares, bugs.DIFFICULTIES.values(), strict=True))
    assert found >= 25 and exact >= 3, (found, exact)


@pytest.mark.parametrize("name", ["ppo.clipped_surrogate", "gae.gae", "cg.cg", "adam.update"])
def test_handed_out_it_is_not_started_and_repaired_it_is_solved(name):
    exercise = of(name, "medium", 1)
    source = bugs.handed_out(exercise)
    assert source == bugs.handed_out(of(name, "medium", 1)) and "trref." not in source.partition('"""\n\n')[2]
    assert judge(exercise, source, limits=QUICK).status == "not started"
    moved = f"{source}\n\nHERE = 1\n"
    result = judge(exercise, moved, limits=QUICK)
    assert result.status == "failed" and any(s["failed"] for s in result.stages.values())
    repaired = judge(exercise, bugs.repaired(name), limits=QUICK)
    assert repaired.status == "passed" and repaired.score == repaired.of


def test_a_new_program_is_no_repair():
    source = "import numpy as np\n\n\ndef clipped_surrogate(log_prob, old_log_prob, advantage, *, clip=0.2):\n"
    for line in ("a = log_prob - old_log_prob", "r = np.exp(a)", "u = r * advantage", "m = len(r)"):
        source += f"    {line}\n"
    source += "    c = np.clip(r, 1 - clip, 1 + clip) * advantage\n"
    source += "    return -np.minimum(u, c).mean(), -np.where(u <= c, u, 0) / m\n"
    result = judge(of("ppo.clipped_surrogate", "easy"), source, limits=QUICK)
    assert result.status == "failed" and result.first == "rewritten" and result.score == 0


def test_seeds_give_different_mistakes():
    texts = {bugs.bug("grpo.grpo", "medium", seed).text for seed in range(6)}
    assert len(texts) > 2


def test_a_deviation_on_record_can_be_handed_out(tmp_path, capsys):
    arguments = ["exercise", "ppo.clipped_surrogate", "--find-the-bug", "-o", str(tmp_path)]
    assert cli.main([*arguments, "--deviation", "without the minimum"]) == 0
    file = tmp_path / "ppo_clipped_surrogate_bug.py"
    assert "def clipped_surrogate(" in file.read_text(encoding="utf-8")
    place = f"{file}:clipped_surrogate"
    assert cli.main(["verify", "ppo.clipped_surrogate", place]) == 1
    assert "without the minimum" in capsys.readouterr().out
    assert cli.main([*arguments, "--deviation", "no such"]) == 2
    assert cli.main(["exercise", "score_models.ddim_sample", "--find-the-bug", "-o", str(tmp_path)]) == 2


def test_the_command_checks_a_repair(tmp_path, capsys):
    arguments = ["exercise", "gae.gae", "--find-the-bug", "--seed", "3"]
    assert cli.main([*arguments, "-o", str(tmp_path)]) == 0
    file = tmp_path / "gae_bug.py"
    assert cli.main([*arguments, "--check", str(file)]) == 2
    file.write_text(bugs.repaired("gae.gae"), encoding="utf-8")
    assert cli.main([*arguments, "--check", str(file)]) == 0
    assert "PASSED" in capsys.readouterr().out


def test_what_one_file_cannot_hold_is_said():
    bundled, why = 0, set()
    for record in catalog.records():
        try:
            compile(bundle(record.f), record.name, "exec")
            bundled += 1
        except Unbundled as error:
            why.add(str(error))
    assert bundled > 0.8 * len(catalog.records()), why
