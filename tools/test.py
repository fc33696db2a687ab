"""Set up .venv and run ruff and the test suite: python3 tools/test.py [--changed] [--peers] [-- pytest arguments].

pytest's closing line is printed last. With --peers the extras `peers` and `mpi` are installed too, and the comparisons
with public packages and the runs on MPI ranks are made; without it those tests skip, naming the package. Two trainers
whose dependencies exclude each other are unpacked without them (tests/peers/trainers.py). With --changed only what the
changes touch is tested: what differs from the commit at which origin/main was left (or from the revision that is
named), and what is not committed.
"""

import argparse
import json
import os
import subprocess
import sys

import _environment

TRAINERS = _environment.ROOT / "tests" / "peers" / "trainers.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="install the public packages to compare with")
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    parser.add_argument("--changed", nargs="?", const="", metavar="SINCE", help="only what the changes touch")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="passed on to pytest")
    options = parser.parse_args()

    extras, trainers = (["peers", "mpi"], TRAINERS) if options.peers else ([], None)
    python = _environment.ensure("test", *extras, alone=trainers, fresh=options.fresh)
    environment = {**os.environ, **_environment.ONE_THREAD, "MPLBACKEND": "agg"}
    style = [
        subprocess.run([python, "-m", "ruff", *arguments, "."], cwd=_environment.ROOT, check=False).returncode
        for arguments in (["check", "--quiet"], ["format", "--check", "--quiet"])
    ]
    if any(style):
        print(
            "ruff found something (above); run: .venv/bin/python -m ruff check . && .venv/bin/python -m ruff format ."
        )
    workers = [] if any(a.startswith(("-n", "--numprocesses", "--pdb")) for a in options.pytest) else ["-n", "2"]
    chosen = _touched(python, options.changed) if options.changed is not None else []
    if chosen is None:
        print("the changes touch no test")
        return int(any(style))
    command = [python, "-m", "pytest", *workers, *chosen, *options.pytest]
    tests = subprocess.run(command, cwd=_environment.ROOT, env=environment, check=False).returncode
    return tests or any(style)


def _touched(python, since):
    """The arguments of pytest for what changed; none for everything, None for nothing."""
    command = [python, _environment.ROOT / "tools" / "_changed.py", *([since] if since else [])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
