"""Set up .venv and run ruff and the test suite: python3 tools/test.py [--peers] [--fresh] [-- pytest arguments].

pytest's closing line is printed last. With --peers the extra `peers` is installed too, and the comparisons with public
packages run; without it those tests skip, naming the package. Two trainers whose dependencies exclude each other are
unpacked without them (tests/peers/trainers.py).
"""

import argparse
import os
import subprocess
import sys

import _environment

TRAINERS = _environment.ROOT / "tests" / "peers" / "trainers.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="install the public packages to compare with")
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="passed on to pytest")
    options = parser.parse_args()

    extras, trainers = (["peers"], TRAINERS) if options.peers else ([], None)
    python = _environment.ensure("test", *extras, alone=trainers, fresh=options.fresh)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "MPLBACKEND": "agg"}
    style = [
        subprocess.run([python, "-m", "ruff", *arguments, "."], cwd=_environment.ROOT, check=False).returncode
        for arguments in (["check", "--quiet"], ["format", "--check", "--quiet"])
    ]
    if any(style):
        print(
            "ruff found something (above); run: .venv/bin/python -m ruff check . && .venv/bin/python -m ruff format ."
        )
    workers = [] if any(a.startswith(("-n", "--numprocesses", "--pdb")) for a in options.pytest) else ["-n", "2"]
    command = [python, "-m", "pytest", *workers, *options.pytest]
    tests = subprocess.run(command, cwd=_environment.ROOT, env=environment, check=False).returncode
    return tests or any(style)


if __name__ == "__main__":
    sys.exit(main())
