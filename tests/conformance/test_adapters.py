"""The adapters of examples/adapters: each conforms by the command in its docstring, or deviates as that says."""

import importlib.util
import pathlib
import re
import shlex

import pytest

from tests.peers import checkouts, trainers
from trref import cli
from trref.conformance import verify

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NEEDS = {
    "geoopt_stiefel.py": ["geoopt"],
    "pymanopt_stiefel.py": ["pymanopt"],
    "scipy_cg.py": ["scipy"],
    "stable_baselines3_gae.py": ["stable_baselines3"],
    "torch_optimizers.py": ["torch"],
    "torchrl_gae.py": ["torchrl"],
    "trainer_with_config.py": ["torch"],
    "trl_grpo.py": ["trl"],
}
TRAINERS = {  # what cannot be imported whole: see tests.peers.trainers
    "areal_policy_loss.py": "areal",
    "garage_gae.py": "garage",
    "labml_ppo.py": "labml_nn",
    "oat_dpo.py": "oat",
    "openrlhf_policy_loss.py": "openrlhf",
    "rlax_surrogate.py": "rlax",
    "skyrl_policy_loss.py": "skyrl",
    "tianshou_gae.py": "tianshou",
    "verl_policy_loss.py": "verl",
}
CHECKOUTS = {  # what has no release: see tests.peers.checkouts
    "easyr1_policy_loss.py": "EasyR1",
    "nemo_rl_loss.py": "NeMo-RL",
    "open_instruct_loss.py": "open-instruct",
    "prime_rl_loss.py": "prime-rl",
    "slime_policy_loss.py": "slime",
}
THERE = {*TRAINERS, *(name for name, checkout in CHECKOUTS.items() if not checkouts.absent(checkout))}
COMMANDS = [
    (path.name, shlex.split(command.replace("\\\\\n", " ").replace("\\\n", " ")))
    for path in sorted((ROOT / "examples" / "adapters").glob("*.py"))
    for command in re.findall(r"^trref (verify (?:.*\\\n)*.*)$", path.read_text(encoding="utf-8"), re.M)
]


def test_every_adapter_has_a_command_and_is_shown():
    files = {path.name for path in (ROOT / "examples" / "adapters").glob("*.py")}
    assert {name for name, _ in COMMANDS} == files == {*NEEDS, *TRAINERS, *CHECKOUTS}
    page = (ROOT / "docs" / "adapters.rst").read_text(encoding="utf-8")
    assert not [name for name in files if f"examples/adapters/{name}" not in page]


@pytest.mark.peer
@pytest.mark.parametrize(("name", "words"), [pair for pair in COMMANDS if pair[0] in NEEDS])
def test_it_conforms(name, words, capsys, monkeypatch):
    for package in NEEDS[name]:
        pytest.importorskip(package)
    monkeypatch.chdir(ROOT)
    status = cli.main(words)
    said = capsys.readouterr()
    assert status == 0, said.out + said.err


@pytest.mark.peer
@pytest.mark.parametrize(("name", "words"), [pair for pair in COMMANDS if pair[0] in THERE])
def test_it_answers_as_it_says(name, words):
    """In this process, in which stand-ins can be had for what the trainer imports beside the function."""
    distribution, context = TRAINERS.get(name), trainers.within
    if name in CHECKOUTS:
        distribution, context = CHECKOUTS[name], checkouts.within
    elif trainers.absent(distribution):
        pytest.skip(f"no files of {distribution} in {trainers.FOLDER}: tools/test.py --peers")
    pytest.importorskip("jax" if distribution == "rlax" else "torchrl")  # brings tensordict
    options = cli._parser().parse_args(words)
    place, _, path = options.implementation.rpartition(":")
    specification = importlib.util.spec_from_file_location(pathlib.Path(place).stem, ROOT / place)
    module = importlib.util.module_from_spec(specification)
    with context(distribution):
        specification.loader.exec_module(module)
    function = getattr(module, path.split(".")[0])
    assume = [name for name in options.assume.split(",") if name]
    verdict = verify(options.name, function, cli._called(options), assume=assume)
    deviation = re.search(r"It deviates: '([^']*)'", module.__doc__)
    assert verdict.status == ("deviates" if deviation else "conforms"), str(verdict)
    assert deviation is None or deviation[1] in str(verdict)
