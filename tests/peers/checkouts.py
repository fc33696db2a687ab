"""Functions of trainers that have no release on the package index, from checkouts of their repositories.

``checkouts.txt`` lists them with the commit that was judged. Where ``TRREF_CHECKOUTS`` names a folder that holds a
checkout of each under its name, their functions are imported and judged like those of `tests.peers.trainers`, whose
rules hold here, too: every module that is named is the file as it stands; no package's ``__init__`` is run; what only
the trainer around the losses needs is not there.
"""

import contextlib
import functools
import importlib
import importlib.abc
import importlib.util
import os
import pathlib
import sys

from tests.peers import trainers

__all__ = ["COMMITS", "SOURCES", "absent", "load"]

LIST = pathlib.Path(__file__).with_name("checkouts.txt").read_text(encoding="utf-8")
ROWS = [line.split() for line in LIST.splitlines() if line and not line.startswith("#")]
SOURCES = {name: address for name, address, _ in ROWS}
COMMITS = {name: commit for name, _, commit in ROWS}
FOLDER = pathlib.Path(os.environ.get("TRREF_CHECKOUTS", "checkouts"))
WITHIN = {"prime-rl": "src"}  # where the packages stand in a folder of the checkout
ABSENT = {
    "EasyR1": (),
    "direct-preference-optimization": ("omegaconf", "preference_datasets", "tensor_parallel", "utils", "wandb"),
    "NeMo-RL": ("nemo_rl.distributed", "nemo_rl.models", "nemo_rl.data", "nemo_rl.algorithms.x_token", "nemo_rl.utils"),
    "ROLL": ("roll.configs", "roll.pipeline.rlvr.rlvr_config", "roll.platforms", "roll.utils.logging"),
    "open-instruct": ("deepspeed", "olmo_core", "ray", "wandb", "open_instruct"),
    "prime-rl": ("beartype", "jaxtyping", "prime_rl.configs", "prime_rl.utils"),
    "sam": (),
    "slime": (),
    "spinningup": ("gym", "spinup.utils"),
}
PRESENT = {
    "open-instruct": (
        "open_instruct",
        "open_instruct.dpo_utils",
        "open_instruct.grpo_utils",
        "open_instruct.model_utils",
        "open_instruct.rl_utils",
    )
}


def absent(checkout):
    """Return whether the checkout is missing."""
    return not (FOLDER / checkout).is_dir()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one checkout, packages without their ``__init__``, and stand-ins for what is not there."""

    def __init__(self, checkout):
        self.root = FOLDER / checkout / WITHIN.get(checkout, "")
        self.absent, self.present = ABSENT[checkout], PRESENT.get(checkout, ())

    def find_spec(self, name, path=None, target=None):
        place = self.root.joinpath(*name.split("."))
        gone = name not in self.present and any(name == a or name.startswith(f"{a}.") for a in self.absent)
        if not gone and place.is_dir() and (name in sys.modules or any(place.rglob("*.py"))):
            return importlib.util.spec_from_loader(name, _Package(place), is_package=True)
        if not gone and place.with_suffix(".py").is_file():
            return importlib.util.spec_from_file_location(name, place.with_suffix(".py"))
        return importlib.util.spec_from_loader(name, _Nothing(), is_package=True) if gone else None


class _Package(importlib.abc.Loader):
    """A package that only finds its modules; what its ``__init__`` would collect is not there."""

    def __init__(self, place):
        self.place = place

    def exec_module(self, module):
        module.__path__ = [str(self.place)]

        def find(attribute):
            if any((self.place / f"{attribute}{end}").exists() for end in ("", ".py")):
                return importlib.import_module(f"{module.__name__}.{attribute}")
            return trainers.stand_in(attribute)

        module.__getattr__ = find


class _Nothing(importlib.abc.Loader):
    """A module that is not there: each of its names is an empty class."""

    def exec_module(self, module):
        module.__path__ = []
        module.__getattr__ = trainers.stand_in


@functools.cache
def load(checkout, module):
    """Import one module of a checkout; afterwards ``sys.modules`` is as before, but for real dependencies."""
    with within(checkout):
        return importlib.import_module(module)


@contextlib.contextmanager
def within(checkout):
    """Let a checkout's modules be imported; meanwhile ``torch.compile``, only slower here, changes nothing."""
    torch = importlib.import_module("torch")
    finder, compiler = _Finder(checkout), torch.compile
    tops = {path.stem for path in finder.root.iterdir()} | {name.partition(".")[0] for name in ABSENT[checkout]}
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in tops}
    sys.meta_path.insert(0, finder)
    torch.compile = lambda *functions, **_: functions[0] if functions else lambda function: function
    try:
        yield
    finally:
        torch.compile = compiler
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(before)
