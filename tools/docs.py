"""Build the site: python3 tools/docs.py [--test] [--fresh] [--reuse].

Makes .venv (reused afterwards), runs every tutorial, and writes the site to build/site; it opens from the file system.
Warnings are errors. With --test the built pages are then opened in headless Chromium (see tests/site). With --reuse
tutorials that did not change keep the pictures of the last build, for work on the text.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
MEAN, LONGEST = 8.0, 20.0  # seconds that a tutorial may take on two cores
FACTOR = 3.0  # a build on a slower or busier machine fails only beyond this multiple


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", action="store_true", help="open every page in headless Chromium afterwards")
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    parser.add_argument("--reuse", action="store_true", help="run only tutorials that changed since the last build")
    parser.add_argument("--python", help="an environment of your own with the extra 'docs', instead of .venv")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tools"))
    import _environment

    python = options.python or _environment.ensure("docs", fresh=options.fresh)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "MPLBACKEND": "agg", "TRREF_BACKEND": "numpy"}
    if not options.reuse:
        shutil.rmtree(ROOT / "docs" / "auto_tutorials", ignore_errors=True)
    for folder in (SITE, ROOT / "build" / "doctrees"):
        shutil.rmtree(folder, ignore_errors=True)
    command = [python, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", "build/doctrees"]
    built = subprocess.run([*command, "docs", str(SITE)], cwd=ROOT, env=environment, check=False).returncode
    if built:
        print("the site was not built: see the warnings above", file=sys.stderr)
        return built
    over = budget(ROOT / "docs" / "auto_tutorials")
    print(f"the site is {SITE / 'index.html'}", flush=True)
    if over:
        return 1
    if options.test:
        test = [python, "-m", "pytest", "-q", "-rs", "-n", "2", "-p", "no:cacheprovider", "tests/site"]
        return subprocess.run(test, cwd=ROOT, env={**environment, "TRREF_SITE": str(SITE)}, check=False).returncode
    return 0


def budget(gallery):
    """Report the tutorials' run times; return whether they are beyond the hard limit."""
    import re

    seconds = {}
    for page in sorted(gallery.glob("*/plot_*.rst")):
        match = re.search(r"\((\d+) minutes (\d+\.\d+) seconds\)", page.read_text(encoding="utf-8"))
        if match is None:
            print(f"{page.stem} states no run time", file=sys.stderr)
            return True
        seconds[page.stem] = 60 * int(match[1]) + float(match[2])
    if not seconds:
        print("there are no tutorials", file=sys.stderr)
        return True
    total, allowed, longest = sum(seconds.values()), MEAN * len(seconds), max(seconds, key=seconds.get)
    print(
        f"{len(seconds)} tutorials ran in {total:.0f} s of {allowed:.0f} s; the longest, {longest}, in"
        f" {seconds[longest]:.0f} s of {LONGEST:.0f} s"
    )
    for name in sorted(seconds, key=seconds.get, reverse=True):
        if seconds[name] > LONGEST:
            print(f"  over {LONGEST:.0f} s: {name}, {seconds[name]:.1f} s")
    over = total > FACTOR * allowed or seconds[longest] > FACTOR * LONGEST
    if over:
        print(f"the tutorials take more than {FACTOR:.0f} times what they may", file=sys.stderr)
    elif total > allowed:
        print("  over the budget, perhaps because the machine is slow or busy")
    return over


if __name__ == "__main__":
    sys.exit(main())
