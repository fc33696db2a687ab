"""Functions of public trainers, from distributions that are installed without their dependencies.

verl and AReaL need Ray, an inference engine and versions of other packages that exclude each other, all for the trainer
around the losses; the losses need PyTorch. So their wheels lie in a folder of their own, ``<environment>/trainers``,
which ``tools/test.py --peers`` fills from ``trainers.txt``, off the import path, and `load` imports single modules:

- every module that it names is the released file, unchanged, and so is what that file imports from its distribution;
- no package's ``__init__`` is run, because those import the trainer: a package only finds its modules, and the names
  that its ``__init__`` collects (`EXPORTS`) from where they are defined;
- the modules in `ABSENT` are not there. Names imported from them are empty classes, which the functions judged here use
  in annotations, as base classes or not at all.
"""

import functools
import importlib
import importlib.metadata
import pathlib
import sys
import types

__all__ = ["FOLDER", "absent", "load", "version"]

FOLDER = pathlib.Path(sys.prefix) / "trainers"
EXPORTS = {
    "verl": {},
    "verl.trainer": {},
    "verl.trainer.ppo": {},
    "verl.utils": {"as_torch_index": "groupwise", "group_mean_std": "groupwise"},
    "verl.utils.profiler": {"ProfilerConfig": "config"},
    "verl.utils.qat": {"QATConfig": "core"},
    "verl.workers": {},
    "verl.workers.config": {"ActorConfig": "actor"},
    "areal": {},
    "areal.trainer": {},
    "areal.trainer.ppo": {},
    "areal.utils": {},
    "areal.utils.functional": dict.fromkeys(
        ("ppo_actor_loss_fn", "reward_overlong_penalty", "sapo_loss_fn"), "functional"
    ),
}
ABSENT = {
    "verl": ("omegaconf", "verl.workers.config.model"),
    "areal": (
        "areal.api",
        "areal.api.cli_args",
        "areal.experimental.training_service.controller.controller",
        "areal.infra",
        "areal.infra.rpc.serialization",
        "areal.trainer.ppo.stats",
        "areal.utils.data",
        "areal.utils.logging",
        "areal.utils.perf_tracer",
        "areal.utils.stats_tracker",
    ),
}


class Nothing:
    """What stands for a name of an absent module: a class; as a decorator it changes nothing."""

    def __init__(self, *arguments, **keywords):
        pass

    def __call__(self, decorated=None):
        return decorated


def absent(distribution):
    """Return whether a trainer's files are missing."""
    return not (FOLDER / distribution).is_dir()


def version(distribution):
    """Return the version of a trainer's files."""
    (found,) = importlib.metadata.distributions(name=distribution, path=[str(FOLDER)])
    return found.version


@functools.cache
def load(module):
    """Import one module of a trainer; afterwards ``sys.modules`` is as before, but for real dependencies."""
    importlib.import_module("torch")
    distribution = module.partition(".")[0]
    stand_ins = {name: _package(name, exports) for name, exports in EXPORTS.items() if _within(name, distribution)}
    stand_ins |= {name: _absent(name) for name in ABSENT[distribution]}
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(module)
    finally:
        for name in [n for n in sys.modules if n in stand_ins or _within(n, distribution)]:
            del sys.modules[name]
        sys.modules.update(before)


def _within(name, package):
    return name == package or name.startswith(f"{package}.")


def _package(name, exports):
    package = types.ModuleType(name)
    package.__path__ = [str(FOLDER.joinpath(*name.split(".")))]

    def find(attribute):
        submodule = f"{name}.{exports.get(attribute, attribute)}"
        if attribute in exports:
            return getattr(importlib.import_module(submodule), attribute)
        if submodule in sys.modules:
            return sys.modules[submodule]
        raise AttributeError(f"{name} has no {attribute}")

    package.__getattr__ = find
    return package


def _absent(name):
    module = types.ModuleType(name)

    def find(attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (Nothing,), {})

    module.__getattr__ = find
    return module
