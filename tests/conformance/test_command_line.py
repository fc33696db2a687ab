"""The command, given what nobody should give it: a message, a status, and no traceback."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from trref import cli
from trref.conformance import export

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAME = "ppo.clipped_surrogate"
MINE = f"{ROOT}/examples/clipped_surrogate.py:loss"


def _run(capsys, *arguments):
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as ended:  # of argparse
        status = ended.code
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out and "trref itself" not in said.err
    return status, said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "0"), "expected seconds in"),
        (("--limit", "nan"), "expected seconds in"),
        (("--limit", "-1"), "expected seconds in"),
        (("--limit", "1e300"), "expected seconds in"),
        (("--nosuch",), "unrecognized arguments"),
        (("--framework", "nosuch"), "invalid choice"),
        (("--backend", "nosuch"), "invalid choice"),
        (("--setting", "nosuch"), "no setting nosuch; there are default, atari, probe"),
        (("--map", "nosuch=clip"), "has no argument 'nosuch'"),
        (("--map", "clip=nosuch"), "takes no nosuch; it takes log_prob"),
        (("--map", "clip=low,high"), "takes no low, high"),
        (("--map", "clip"), "--map expects NAME=VALUE"),
        (("--set", "clip"), "--set expects NAME=VALUE"),
        (("--set", "nosuch=1"), "takes no nosuch"),
        (("--set", "log_prob=1"), "log_prob is an input"),
        (("--set", "clip=text"), "clip must be a number"),
        (("--set", "clip=-1"), "clip must lie in (0, inf)"),
        (("--set", "clip=" + "(" * 100_000), "clip must be a number"),
        (("--reference", "nosuch=1"), "has no constant 'nosuch'; it has clip"),
        (("--reference", "advantage=1"), "advantage is an input"),
        (("--theirs", "nosuch=1"), "takes no nosuch"),
    ],
)
def test_options_of_verify(capsys, arguments, message):
    status, _, err = _run(capsys, "verify", NAME, MINE, *arguments)
    assert status == 2 and message in err, err


@pytest.mark.parametrize("arguments", [("list", "nosuch"), ("check", "nosuch"), ("show", "nosuch"), ("show", ""), ()])
def test_nothing_is_called_so(capsys, arguments):
    assert _run(capsys, *arguments)[0] == 2


def test_constants_of_one_side_alone(capsys):
    assert _run(capsys, "verify", NAME, MINE, "--reference", "clip=0.3")[0] == 1
    assert _run(capsys, "verify", NAME, MINE, "--theirs", "clip=0.3")[0] == 1
    assert _run(capsys, "verify", NAME, MINE, "--reference", "clip=0.3", "--theirs", "clip=0.3")[0] == 0
    status, out, _ = _run(capsys, "verify", NAME, MINE, "--setting", "atari")
    assert status == 0 and "settings atari;" in out


def test_a_constant_goes_where_the_name_does(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(pathlib.Path(MINE.split(":")[0]).read_text().replace("clip=", "eps=").replace("clip,", "eps,"))
    text = path.read_text()
    path.write_text(text.replace("- clip", "- eps").replace("+ clip", "+ eps"))
    assert _run(capsys, "verify", NAME, f"{path}:loss", "--map", "clip=eps", "--set", "clip=0.3")[0] == 0


def test_assumptions(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from trref.tokens.grpo import grpo\n\ndef loss(log_prob, old_log_prob, advantage, mask, clip=0.2):\n"
        "    assert (mask.sum(1) > 0).all()\n    return grpo(log_prob, old_log_prob, advantage, mask, clip=clip)\n"
    )
    status, out, _ = _run(capsys, "verify", "grpo.grpo", f"{path}:loss")
    assert status == 1 and out.startswith("CONFORMS EXCEPT") and "--assume nonempty" in out
    status, out, _ = _run(capsys, "verify", "grpo.grpo", f"{path}:loss", "--assume", "groups,nonempty")
    assert status == 0 and out.startswith("CONFORMS: ")
    status, _, err = _run(capsys, "verify", "grpo.grpo", f"{path}:loss", "--assume", "nothing")
    assert status == 2 and "nothing is called 'nothing'" in err


def test_no_gradient(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        pathlib.Path(MINE.split(":")[0]).read_text()
        + "\ndef both(**given): return loss(**given), 0 * given['log_prob']\n"
    )
    assert _run(capsys, "verify", NAME, f"{path}:both")[0] == 1
    status, out, _ = _run(capsys, "verify", NAME, f"{path}:both", "--no-gradient")
    assert status == 0 and "no gradient (it was not asked for)" in out


def test_a_numpy_function_in_a_file_that_imports_torch(tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "mine.py"
    source = pathlib.Path(MINE.split(":")[0]).read_text()
    path.write_text("import torch\n" + source)
    status, out, _ = _run(capsys, "verify", NAME, f"{path}:loss")
    assert status == 0 and "(numpy)" in out and "note" not in out
    path.write_text(
        "import torch\nimport collections\n\ndef loss(log_prob, old_log_prob, advantage, clip=0.2):\n"
        "    ratio = (log_prob - old_log_prob).astype(float).__array__()\n"
        "    return -sum(min(2.718281828459045**r * a, min(max(2.718281828459045**r, 1 - clip), 1 + clip) * a)"
        " for r, a in zip(ratio, advantage)) / len(ratio)\n"
    )
    status, out, _ = _run(capsys, "verify", NAME, f"{path}:loss")
    assert status == 0 and "called with numpy; with torch it fails" in out, out


def test_a_required_constant(tmp_path, capsys):
    """``max_length`` has no default; a constant of another name leaves it as the setting has it."""
    path = tmp_path / "mine.py"
    path.write_text("from trref.tokens.dr_grpo import dr_grpo\n")
    assert _run(capsys, "verify", "dr_grpo.dr_grpo", f"{path}:dr_grpo", "--set", "clip=0.1")[0] == 0


# ---- streams


def _command(*arguments, shell="", flags=(), **environment):
    command = " ".join([sys.executable, *flags, "-m", "trref", *arguments, shell])
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, cwd=ROOT, env={**os.environ, **environment}, timeout=120
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert "Traceback" not in text and "Exception ignored" not in text, text
    return done.returncode, text


@pytest.mark.parametrize(
    ("shell", "status"),
    [
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("> /dev/full", 2),
        ("| head -1", 0),
        ("| head -1; exit ${PIPESTATUS[0]}", 141),
    ],
)
def test_streams(shell, status):
    """Closed, full, and left by their reader: what is printed is longer than a pipe holds."""
    arguments = [
        "-c",
        f"'from trref import cli; import sys; cli.print = lambda *a, **k: print(*(a * 10**2), **k);"
        f' sys.exit(cli.main(["show", "{NAME}"]))\'',
    ]
    done = subprocess.run(
        ["bash", "-c", " ".join([sys.executable, *arguments, shell])], capture_output=True, cwd=ROOT, timeout=120
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == status and "Traceback" not in text and "Exception ignored" not in text, text[-500:]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_verify_with_closed_streams(closed):
    assert _command("verify", NAME, MINE, shell=closed)[0] == 0


def test_a_console_without_greek():
    status, text = _command("show", "cg.cg", PYTHONIOENCODING="ascii")
    assert status == 0 and "?" in text


def test_without_docstrings():
    assert _command("show", NAME, flags=["-OO"])[0] == 0
    assert _command("verify", NAME, MINE, flags=["-OO"])[0] == 0
    status, text = _command("check", "ppo", flags=["-OO"])
    assert status == 2 and "the contracts read docstrings" in text


@pytest.mark.parametrize("place", ["{}", "{}/no/such/file", "/dev/full"])
def test_an_unwritable_json(place, tmp_path, capsys):
    status, out, err = _run(capsys, "verify", NAME, MINE, "--json", place.format(tmp_path))
    assert status == 2 and out.startswith("CONFORMS") and "cannot write" in err


# ---- results that are no results


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vectors")
    export(NAME, directory, seeds=(0,), sizes=(4,))
    return directory


@pytest.fixture
def right(vectors):
    cases = json.loads((vectors / "cases.json").read_text())
    return {
        c["id"]: {part: np.array(entry["data"]).reshape(entry["shape"]) for part, entry in c["expected"].items()}
        for c in cases
    }


def _named(results):
    return {f"{case}/{part}": array for case, parts in results.items() for part, array in parts.items()}


def _compare(capsys, vectors, path):
    status, out, err = _run(capsys, "compare", vectors, path)
    return status, out + err


def test_what_was_compared(vectors, right, tmp_path, capsys):
    np.savez(tmp_path / "r.npz", **_named(right))
    status, text = _compare(capsys, vectors, tmp_path / "r.npz")
    assert status == 0 and f"compared: value ({len(right)}), gradient_log_prob ({len(right)})" in text
    np.savez(tmp_path / "r.npz", **{k: v for k, v in _named(right).items() if "value" in k})
    status, text = _compare(capsys, vectors, tmp_path / "r.npz")
    assert status == 0 and f"compared: value ({len(right)})\n" in text


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("0000/value", np.array(1j), "case 0000, value is of dtype complex128"),
        ("0000/value", np.array("0.5"), "case 0000, value is of dtype <U3"),
        ("0000/value", np.array(None), "case 0000, value is of dtype object"),
        ("0000/value", np.zeros(3), r"case 0000, value has shape (3,)"),
        ("0000/value", np.zeros(10**6), r"case 0000, value has shape (1000000,)"),
        ("0000/gradient_log_probs", np.zeros(4), "case 0000 has no part 'gradient_log_probs'; it has value"),
        ("value", np.zeros(4), "there is no case 'value'"),
        ("9999/value", np.zeros(()), "there is no case '9999'; there are 0000 to"),
    ],
)
def test_arrays_that_are_refused(vectors, right, tmp_path, capsys, name, array, message):
    np.savez(tmp_path / "r.npz", **{**_named(right), name: array})
    status, text = _compare(capsys, vectors, tmp_path / "r.npz")
    assert status == 2 and message in text, text


def _complex_with_a_right_real_part(right):
    return {name: array + 0j for name, array in _named(right).items()}


def test_complex_numbers(vectors, right, tmp_path, capsys):
    np.savez(tmp_path / "r.npz", **_complex_with_a_right_real_part(right))
    assert _compare(capsys, vectors, tmp_path / "r.npz")[0] == 2


def _truncated(data):
    return data[: len(data) // 2]


def _flipped(data):
    middle = len(data) // 3
    return data[:middle] + bytes(b ^ 255 for b in data[middle : middle + 200]) + data[middle + 200 :]


def _encrypted(data):
    """The flag that says so, in every entry."""
    data = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    return bytes(data)


def _lying(data):
    """Headers of arrays that claim a million million entries."""
    return data.replace(b"'shape': (), ", b"'shape': (10**12,), ".replace(b"10**12", b"9" * 9))


@pytest.mark.parametrize("damage", [_truncated, _flipped, _encrypted, _lying, lambda d: b"", lambda d: b"PK\x03\x04"])
def test_damaged_archives(vectors, right, tmp_path, capsys, damage):
    np.savez(tmp_path / "r.npz", **_named(right))
    (tmp_path / "r.npz").write_bytes(damage((tmp_path / "r.npz").read_bytes()))
    status, text = _compare(capsys, vectors, tmp_path / "r.npz")
    assert status == 2, text


def test_an_array_that_claims_more_than_it_has(vectors, right, tmp_path, capsys):
    import zipfile

    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }"
    lie = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"
    for text in (lie, head.replace(b"<f8", b"|O"), b"(" * 5000, b"x" * 100_000):
        with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
            array = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + b"\0" * 8
            archive.writestr("0000/value.npy", array)
        assert _compare(capsys, vectors, tmp_path / "r.npz")[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "RecursionError"),
        ("", "JSONDecodeError"),
        ("[1, 2]", "expected"),
        ('{"0000": 3}', "expected"),
        ('{"0000": {"value": ' + "[" * 900 + "1" + "]" * 900 + "}}", "case 0000, value"),
        ('{"0000": {"value": [1, [2]]}}', "case 0000, value is no array of real numbers"),
        ('{"0000": {"value": "0.5"}}', "case 0000, value is no array of real numbers: a text '0.5'"),
        ('{"0000": {"value": null}}', "case 0000, value is no array of real numbers"),
        ('{"0000": {"value": {"data": [1]}}}', "case 0000, value is no array of real numbers"),
        ('{"0000": {"value": 1' + "0" * 400 + "}}", "case 0000, value is no array of real numbers"),
        ('{"0000": {"values": 1}}', "case 0000 has no part 'values'"),
        ('{"00": {"value": 1}}', "there is no case '00'"),
    ],
)
def test_documents_that_are_refused(vectors, tmp_path, capsys, text, message):
    (tmp_path / "r.json").write_text(text)
    status, said = _compare(capsys, vectors, tmp_path / "r.json")
    assert status == 2 and message in said, said


@pytest.mark.parametrize("text", ["[]", "{}", "[{}]", "[3]", "[" * 100_000, '[{"id": "0000", "expected": {}}]'])
def test_vectors_that_are_refused(vectors, right, tmp_path, capsys, text):
    (tmp_path / "manifest.json").write_text((vectors / "manifest.json").read_text())
    (tmp_path / "cases.json").write_text(text)
    np.savez(tmp_path / "r.npz", **_named(right))
    status, said = _compare(capsys, tmp_path, tmp_path / "r.npz")
    assert status == 2 and "expected vectors of trref export" in said, said
