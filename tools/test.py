"""Set up .venv and run ruff and the test suite: python3 tools/test.py [--peers] [--fresh] [-- pytest arguments].

pytest's closing line is printed last. With --peers the extra `peers` is installed too, and the comparisons with public
packages run; without it those tests skip, naming the package.
"""

import argparse
import os
import subprocess
import sys

import _environment


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="install the public packages to compare with")
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="passed on to pytest")
    options = parser.parse_args()

    python = _environment.ensure("test", *(["peers"] if options.peers else []), fresh=options.fresh)
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
    command = [python, "-m", "pytest", "-q", *workers, *options.pytest]
    tests = subprocess.run(command, cwd=_environment.ROOT, env=environment, check=False).returncode
    return tests or any(style)


if __name__ == "__main__":
    sys.exit(main())
