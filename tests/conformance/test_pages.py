"""What a page says under "Where implementations differ", and what `verify` can name, are held to each other.

The site prints the deviations of the records below the text, so that every one of them is on its page. The other way
round, a code base that the text names is one in which a deviation of the method was seen, one that the ledger judges
against it, or one of `OTHERWISE`, which says why there is nothing to name.
"""

import json
import pathlib
import re

import pytest

from trref import catalog

ROOT = pathlib.Path(__file__).resolve().parents[2]
TITLE = "**Where implementations differ.**"
CODE_BASES = """
AReaL CleanRL ColossalAI DomainBed EasyR1 Edifice FibrationPO HALOs Keras LLaMA-Factory Liger MONAI Manopt NeMo-RL
OpenRLHF POT PaddleFormers PyTorch ROLL SB3-contrib SamsungLabs SciPy SkyRL Spinning|Up Stable-Baselines3 Stable-RL TRL
TensorFlow UniRL baselines davda54 diffusers geoopt labml minimind mlx modular_rl oat open-instruct optax prime-rl
pymanopt pytorch_optimizer rlax slime tianshou torchattacks turbo-alignment verl
""".replace("\n", " ").split()
CODE_BASES = [name.replace("|", " ") for name in CODE_BASES]

HERE = "computes it as here"
FOLLOWS = "its variant is a function or a setting here"
NAMES = "the same quantity under another name, or another default of a setting"
STOPS = "stopping and searching, which solutions do not show"
LOGS = "what is logged, not what is computed"
USE = "a use of the function, not the function"
OTHERWISE = {
    "ppo": {"Spinning Up": USE},
    "ppo_penalty": {
        "baselines": LOGS,
        "CleanRL": LOGS,
        "Stable-Baselines3": LOGS,
        "Spinning Up": LOGS,
    },
    "covariance_clip": {"SkyRL": NAMES},
    "drpo": {"Stable-RL": FOLLOWS},
    "dual_clip": {"TRL": FOLLOWS},
    "f_divergences": {"verl": "a deviation of drpo.dppo's trainer; values near 0 and 1, below what is compared"},
    "pspo": {"TRL": "never released"},
    "reduced_divergences": {"TRL": HERE},
    "reinforce": {"TRL": "other catalogued methods: rloo and reinforce_plus_plus", "Spinning Up": FOLLOWS},
    "reinforce_plus_plus": {"OpenRLHF": FOLLOWS, "slime": FOLLOWS, "NeMo-RL": FOLLOWS},
    "dpo": {"open-instruct": FOLLOWS, "LLaMA-Factory": FOLLOWS},
    "ipo": {"LLaMA-Factory": FOLLOWS, "HALOs": "counts tokens before the loss is computed"},
    "kto": {"OpenRLHF": "its form for pairs is a deviation of dpo.dpo"},
    "orpo": {"LLaMA-Factory": HERE, "Liger": "low precision, which no case is in"},
    "rpo": {"OpenRLHF": FOLLOWS, "LLaMA-Factory": FOLLOWS},
    "simpo": {"LLaMA-Factory": NAMES},
    "tr_dpo": {"TRL": HERE, "PyTorch": "a deviation on record names its convention, of moving averages anywhere"},
    "cg": {"SB3-contrib": USE},
    "nonlinear_cg": {"SciPy": STOPS},
    "more_sorensen": {"SciPy": STOPS},
    "steihaug": {"SciPy": HERE},
    "trust_region_minimize": {"SciPy": STOPS},
    "trust_region_steps": {"SciPy": HERE},
    "trust_region_subproblem": {"SciPy": STOPS},
    "riemannian_cg": {"pymanopt": STOPS},
    "sgd": {"Keras": FOLLOWS},
    "sam": {"davda54": "1e-12 in the norm, below what is compared", "SamsungLabs": "1e-16 in the norm"},
    "domain_penalties": {"DomainBed": "a sum over pairs where a mean is taken here, which verify names as a factor"},
}


def _named(text):
    return {name for name in CODE_BASES if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w])", text)}


def _said(method):
    start = method.module.__doc__.find(TITLE)
    return " ".join(method.module.__doc__[start:].split("\n\n")[0].split()) if start >= 0 else ""


def _seen(method):
    return _named(" ".join(d.seen_in for record in method.functions for d in record.deviations))


def _judged(slug):
    path = ROOT / "docs" / "ledger" / f"{slug}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    text = " ".join(row["implementation"] for row in rows)
    return _named(text.replace("torch.optim", "PyTorch").replace("scipy.", "SciPy ").replace("optax.", "optax "))


METHODS = {method.module.__name__.rpartition(".")[2]: method for method in catalog.methods()}


@pytest.mark.parametrize("slug", METHODS)
def test_what_a_page_names_can_be_named(slug):
    method = METHODS[slug]
    known = _seen(method) | _judged(slug)
    otherwise = OTHERWISE.get(slug, {})
    missing = _named(_said(method)) - known - set(otherwise)
    assert not missing, f"the page says what {missing} compute, and no deviation was seen there: is one missing?"
    assert set(otherwise) <= _named(_said(method)), "the table excuses what the page does not say"


def test_the_table_names_methods():
    assert set(OTHERWISE) <= set(METHODS)


def test_a_record_says_where_it_was_seen():
    for method in METHODS.values():
        for record in method.functions:
            for deviation in record.deviations:
                assert deviation.seen_in.strip() and deviation.computes.strip(), (record.name, deviation.name)
