"""Functions of public trainers, from distributions that are installed without their dependencies.

verl, AReaL, OpenRLHF, SkyRL and oat need Ray, an inference engine and versions of other packages that exclude each
other, all for the trainer around the losses; the losses need PyTorch. tianshou, rlax and labml need much that the
functions judged here never touch. So their wheels lie in a folder of their own, ``<environment>/trainers``,
which ``tools/test.py --peers`` fills from ``trainers.txt``, off the import path, and `load` imports single modules:

- every module that it names is the released file, unchanged, and so is what that file imports from its distribution;
- no package's ``__init__`` is run, because those import the trainer: a package only finds its modules, and the names
  that its ``__init__`` collects (`EXPORTS`) from where they are defined;
- the modules in `ABSENT` are not there. Names imported from them are empty classes, which the functions judged here use
  in annotations, as base classes or not at all.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import pathlib
import sys
import types

__all__ = ["FOLDER", "absent", "load", "stand_in", "version"]

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
    "diffusers": {},
    "diffusers.schedulers": {},
    "flwr": {},
    "flwr.server": {},
    "flwr.server.strategy": {},
    "garage": {},
    "garage.torch": {},
    "labml_nn": {},
    "labml_nn.rl": {},
    "oat": {},
    "oat.learners": {},
    "opacus": {},
    "opacus.accountants": {},
    "opacus.accountants.analysis": {},
    "openrlhf": {},
    "openrlhf.models": {},
    "openrlhf.trainer": {},
    "openrlhf.trainer.ppo_utils": {},
    "rlax": {},
    "rlax._src": {},
    "sb3_contrib": {},
    "sb3_contrib.common": {},
    "skyrl": {},
    "skyrl.backends": {},
    "skyrl.backends.skyrl_train": {},
    "skyrl.backends.skyrl_train.utils": {},
    "tianshou": {},
    "tianshou.algorithm": {},
    "torchjd": {},
    "torchjd.aggregation": {},
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
    "diffusers": (
        "diffusers.configuration_utils",
        "diffusers.schedulers.scheduling_utils",
        "diffusers.utils",
        "diffusers.utils.torch_utils",
    ),
    "flwr": ("flwr.common", "flwr.server.client_proxy"),
    "garage": (),
    "labml_nn": ("labml",),
    "nonconvexAG": ("multiprocess", "numba"),
    "oat": (),
    "opacus": (),
    "openrlhf": ("deepspeed",),
    "rlax": ("chex", "distrax"),
    "sb3_contrib": (),
    "skyrl": ("jaxtyping", "loguru", "omegaconf", "ray", "skyrl.train", "skyrl.train.config"),
    "tianshou": (
        "numba",
        "overrides",
        "sensai",
        "sensai.util",
        "sensai.util.hash",
        "sensai.util.helper",
        "tianshou.algorithm.optim",
        "tianshou.data",
        "tianshou.data.batch",
        "tianshou.data.buffer",
        "tianshou.data.buffer.buffer_base",
        "tianshou.data.types",
        "tianshou.utils",
        "tianshou.utils.determinism",
        "tianshou.utils.lagged_network",
        "tianshou.utils.net",
        "tianshou.utils.net.common",
        "tianshou.utils.print",
        "tianshou.utils.torch_utils",
    ),
    "torchjd": (),
}
DISTRIBUTIONS = {
    "labml_nn": "labml-nn",
    "oat": "oat-llm",
    "sb3_contrib": "sb3-contrib",
}  # where the package has another name


class Anything(type):
    """Classes that have whatever attribute they are asked for, and no members."""

    def __iter__(cls):
        return iter(())

    def __getattr__(cls, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return Nothing


class Nothing(metaclass=Anything):
    """What stands for a name of an absent module: a class, and false; as a decorator it changes nothing."""

    def __new__(cls, *arguments, **keywords):
        alone = len(arguments) == 1 and not keywords
        decorates = alone and isinstance(arguments[0], types.FunctionType | type)
        return arguments[0] if decorates else super().__new__(cls)

    def __init__(self, *arguments, **keywords):
        pass

    def __class_getitem__(cls, item):
        return cls

    def __call__(self, decorated=None):
        return decorated

    def __bool__(self):
        return False


def absent(distribution):
    """Return whether a trainer's files are missing."""
    return not (FOLDER / distribution).is_dir()


def version(distribution):
    """Return the version of a trainer's files."""
    name = DISTRIBUTIONS.get(distribution, distribution)
    (found,) = importlib.metadata.distributions(name=name, path=[str(FOLDER)])
    return found.version


@functools.cache
def load(module):
    """Import one module of a trainer; afterwards ``sys.modules`` is as before, but for real dependencies."""
    with within(module.partition(".")[0]):
        return importlib.import_module(module)


@contextlib.contextmanager
def within(distribution):
    """Let a trainer's modules be imported, also by functions that do so when they are called."""
    importlib.import_module("torch")
    stand_ins = {name: _package(name, exports) for name, exports in EXPORTS.items() if _within(name, distribution)}
    stand_ins |= {name: _absent(name) for name in ABSENT[distribution]}
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
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


def stand_in(attribute):
    """Return an empty class for a name of a module that is not there."""
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (Nothing,), {})


def _absent(name):
    module = types.ModuleType(name)
    module.__getattr__ = stand_in
    return module
