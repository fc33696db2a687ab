"""Where a deviation was seen, with a link to the file in the version that is named."""

import re

from trref_site import rst

__all__ = ["linked"]

# name in the records -> repository, the tag of a version, and the folder below which the file is named
PROJECTS = {
    "TRL": ("huggingface/trl", "v{}", ""),
    "verl": ("volcengine/verl", "v{}", ""),
    "AReaL": ("inclusionAI/AReaL", "v{}", ""),
    "OpenRLHF": ("OpenRLHF/OpenRLHF", "v{}", ""),
    "CleanRL": ("vwxyzjn/cleanrl", "v{}", "cleanrl/"),
    "Stable-Baselines3": ("DLR-RM/stable-baselines3", "v{}", "stable_baselines3/"),
    "Spinning Up": ("openai/spinningup", "{}", "spinup/algos/"),
    "skrl": ("Toni-SM/skrl", "{}", ""),
    "POT": ("PythonOT/POT", "{}", ""),
    "geoopt": ("geoopt/geoopt", "v{}", "geoopt/"),
    "PyTorch": ("pytorch/pytorch", "v{}.0", ""),
    "optax": ("google-deepmind/optax", "v{}", ""),
    "pytorch_optimizer": ("kozistr/pytorch_optimizer", "v{}.0", "pytorch_optimizer/"),
}
FILE = r"(?P<file>(?:[\w.-]+/)*[\w.-]+\.(?:py|cu|ipynb))"
NAMED = re.compile(
    rf"\b(?P<project>{'|'.join(map(re.escape, PROJECTS))})(?: (?P<version>\d+(?:\.\d+)+))?,? {FILE}(?![\w/])"
)
FOLDERS = {"openai/baselines": "baselines/"}  # below which their files are named
OWNED = re.compile(rf"(?<![\w/])(?P<owner>[\w-]+/[\w.-]+?)[,)]? {FILE}(?: \((?P<commit>[0-9a-f]{{7,40}})\))?")


def linked(text):
    """Return RST: the words, in which every file that is named in full leads to its repository at that version."""
    found = sorted(
        [*((m, _named(m)) for m in NAMED.finditer(text)), *((m, _owned(m)) for m in OWNED.finditer(text))],
        key=lambda pair: pair[0].start(),
    )
    words, end = [], 0
    for match, address in found:
        if match.start("file") < end:
            continue
        words += [rst.inline(text[end : match.start("file")]), f"`{match['file']} <{address}>`__"]
        end = match.end("file")
        if text[end : end + 1].isalnum():
            words.append("\\ ")
    return "".join([*words, rst.inline(text[end:])])


def _named(match):
    repository, tag, folder = PROJECTS[match["project"]]
    folder = "" if match["file"].startswith(folder) or "/" not in folder else folder
    version = tag.format(match["version"]) if match["version"] else "HEAD"
    return f"https://github.com/{repository}/blob/{version}/{folder}{match['file']}"


def _owned(match):
    folder = FOLDERS.get(match["owner"], "")
    return f"https://github.com/{match['owner']}/blob/{match['commit'] or 'HEAD'}/{folder}{match['file']}"
