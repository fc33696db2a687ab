"""Golden vectors: exact round trips, scores, and another language."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from trref import catalog, cli
from trref.conformance import compare, export

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAME = "ppo.clipped_surrogate"


@pytest.fixture
def vectors(tmp_path):
    export(NAME, tmp_path / "vectors")
    return tmp_path / "vectors"


def _cases(directory):
    return json.loads((directory / "cases.json").read_text())


def _right(directory):
    """The expected results, as a program would write them."""
    return {c["id"]: {part: entry["data"] for part, entry in c["expected"].items()} for c in _cases(directory)}


def test_manifest_and_cases(vectors):
    manifest = json.loads((vectors / "manifest.json").read_text())
    cases = _cases(vectors)
    assert manifest["schema"] == "trref-vectors/1" and manifest["cases"] == len(cases) > 40
    assert {c["setting"] for c in cases} == set(catalog.find(NAME).settings)
    assert {c["dtype"] for c in cases} == {"float64", "float32"}
    assert all(c["hyper"] for c in cases)


def test_floats_round_trip(vectors):
    with np.load(vectors / "cases.npz") as file:
        for case in _cases(vectors):
            array = file[f"{case['id']}/inputs/log_prob"]
            assert array.dtype == case["dtype"]
            assert array.tolist() == case["inputs"]["log_prob"]["data"]


def test_kinks_have_a_range(vectors):
    on_bound = [c for c in _cases(vectors) if "on the clip bounds" in c["label"] and c["setting"] == "default"]
    assert on_bound and all("low" in c["expected"]["gradient_log_prob"] for c in on_bound)
    smooth = [c for c in _cases(vectors) if "on-policy" in c["label"]]
    assert smooth and not any("low" in c["expected"]["gradient_log_prob"] for c in smooth)


def test_right_results_conform(vectors, tmp_path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps(_right(vectors)))
    score = compare(vectors, results)
    assert score.conforms and score.cases == len(_cases(vectors))
    arrays = {f"{i}/{part}": np.array(data) for i, parts in _right(vectors).items() for part, data in parts.items()}
    np.savez(tmp_path / "results.npz", **arrays)
    assert compare(vectors, tmp_path / "results.npz").conforms


def test_wrong_and_missing_results(vectors, tmp_path):
    wrong = _right(vectors)
    wrong["0000"]["value"] = [1.0]
    wrong["0001"]["gradient_log_prob"][2] += 1e-3
    wrong["0002"]["gradient_log_prob"] = [0.0]
    wrong["0003"]["value"] = ["NaN"]
    del wrong["0004"]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(wrong))
    score = compare(vectors, results)
    assert len(score.failures) == 5 and not score.conforms
    text = " ".join(score.failures)
    for message in ("value[0]", "gradient_log_prob[2] is", "has shape", "no value was given"):
        assert message.replace("value[0]", "value is") in text or message in text


@pytest.mark.parametrize("name", ["cg.cg", "adam.update", "sam.perturbed_gradient", "gae.gae", "stiefel.retract_qr"])
def test_every_type_is_exported(name, tmp_path):
    assert export(name, tmp_path, sizes=(4,), seeds=(0,)) > 0
    results = tmp_path / "results.json"
    results.write_text(json.dumps({c["id"]: c["expected"] for c in _cases(tmp_path)}))
    assert compare(tmp_path, results).conforms


def test_random_functions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="draws for itself"):
        export("score_models.ddim_sample", tmp_path)


def test_solvers_are_exported_as_far_as_their_solution_is_unique(tmp_path):
    export("cg.cg", tmp_path / "cg")
    cases = _cases(tmp_path / "cg")
    solved = [c for c in cases if "iterate" not in c["label"]]
    assert solved and all(list(c["expected"]) == ["solution"] for c in solved)
    entry = solved[0]["expected"]["solution"]
    assert entry["tolerance"] == pytest.approx(catalog.find("cg.cg").agreement * np.abs(entry["data"]).max())
    assert {"solution", "residual_norms"} <= set(next(c for c in cases if "iterate" in c["label"])["expected"])
    export("trust_region_minimize.trust_region_minimize", tmp_path / "iterates")
    assert all("iterate" in c["label"] for c in _cases(tmp_path / "iterates"))
    with pytest.raises(ValueError, match="may have several solutions"):
        export("trust_region_subproblem.eigen_step", tmp_path / "none")


def test_unreadable_files(vectors, tmp_path, capsys):
    bad = tmp_path / "results.json"
    bad.write_text("[1, 2")
    assert cli.main(["compare", str(vectors), str(bad)]) == 2
    assert cli.main(["compare", str(tmp_path / "nowhere"), str(bad)]) == 2
    assert "expected vectors of trref export" in capsys.readouterr().err


def test_another_language(vectors, tmp_path, capsys):
    """The worked example in JavaScript conforms; with a changed line it does not."""
    if not (node := shutil.which("node")):
        pytest.skip("node, which runs the worked example in JavaScript, is missing")
    program = ROOT / "examples" / "vectors" / "clipped_surrogate.mjs"
    results = tmp_path / "results.json"
    subprocess.run([node, program, vectors, results], check=True)
    assert cli.main(["compare", str(vectors), str(results)]) == 0
    assert "CONFORMS" in capsys.readouterr().out
    broken = tmp_path / "broken.mjs"
    broken.write_text(program.read_text().replace("Math.min(unclipped, clipped)", "clipped"))
    subprocess.run([node, broken, vectors, results], check=True)
    assert cli.main(["compare", str(vectors), str(results)]) == 1
