"""The adapters of examples/adapters: each conforms by the command that its docstring gives."""

import pathlib
import re
import shlex

import pytest

from trref import cli

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NEEDS = {
    "pymanopt_stiefel.py": ["pymanopt"],
    "scipy_cg.py": ["scipy"],
    "stable_baselines3_gae.py": ["stable_baselines3"],
    "torch_optimizers.py": ["torch"],
    "torchrl_gae.py": ["torchrl"],
    "trainer_with_config.py": ["torch"],
}
COMMANDS = [
    (path.name, command)
    for path in sorted((ROOT / "examples" / "adapters").glob("*.py"))
    for command in re.findall(r"^trref (verify (?:.*\\\n)*.*)$", path.read_text(), re.M)
]


def test_every_adapter_has_a_command():
    files = {path.name for path in (ROOT / "examples" / "adapters").glob("*.py")}
    assert {name for name, _ in COMMANDS} == files == set(NEEDS)


@pytest.mark.peer
@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_it_conforms(name, command, capsys, monkeypatch):
    for package in NEEDS[name]:
        pytest.importorskip(package)
    monkeypatch.chdir(ROOT)
    status = cli.main(shlex.split(command.replace("\\\\\n", " ").replace("\\\n", " ")))
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    page = (ROOT / "docs" / "adapters.rst").read_text()
    assert f"examples/adapters/{name}" in page
