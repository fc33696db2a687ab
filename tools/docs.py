"""Build the site: python3 tools/docs.py [--test] [--fresh] [--rerun | --reuse] [--only METHOD …].

Makes .venv (reused afterwards), runs the tutorials, and writes the site to build/site; it opens from the file system.
Warnings are errors. With --test the built pages are then opened in headless Chromium (see tests/site). A tutorial that
has run keeps its page until it, or something of trref that it imports, changes; --rerun runs all, and --reuse only
those whose own script has changed, for work on the text. With --only the pages and the tutorials of some methods are
built, in build/only, and links to the others lead nowhere.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

import _environment
import _speed
import _tutorials

ROOT = _environment.ROOT
MEAN, LONGEST = 8.0, 15.0  # seconds that a tutorial may take on one idle core
MARGIN = 1.5  # what the measured speed of the machine leaves open


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", action="store_true", help="open every page in headless Chromium afterwards")
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rerun", action="store_true", help="run every tutorial, whatever has run before")
    which.add_argument("--reuse", action="store_true", help="run only tutorials whose own script has changed")
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="only these methods' pages")
    parser.add_argument("--python", help="an environment of your own with the extra 'docs', instead of .venv")
    options = parser.parse_args()
    python = options.python or _environment.ensure("docs", fresh=options.fresh)
    environment = {**os.environ, **_environment.ONE_THREAD, "MPLBACKEND": "agg", "TRREF_BACKEND": "numpy"}
    environment["TRREF_ONLY"] = " ".join(options.only)
    site = ROOT / "build" / ("only" if options.only else "site")
    doctrees = site.with_name(f"doctrees-{site.name}")
    states = None if options.reuse else _tutorials.prepare(everything=options.rerun and not options.only)
    for folder in (site, doctrees):
        shutil.rmtree(folder, ignore_errors=True)
    command = [python, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", str(doctrees)]
    start = time.time()
    with _speed.Slowness(python, environment) as slowness:
        # the site shows what pytest prints for a reader, who has no options of ours
        reader = {k: v for k, v in environment.items() if k != "PYTEST_ADDOPTS"}
        built = subprocess.run([*command, "docs", str(site)], cwd=ROOT, env=reader, check=False).returncode
    if built:
        print("the site was not built: see the warnings above", file=sys.stderr)
        return built
    pages = list((ROOT / "docs" / "auto_tutorials").glob("*/plot_*.rst"))
    ran = sorted(page for page in pages if page.stat().st_mtime > start)
    if states:
        _tutorials.keep(states)
    over = budget(ran, slowness.factor, whole=len(ran) == len(pages) and not options.only)
    print(f"the site is {site / ('methods' if options.only else '') / 'index.html'}", flush=True)
    if over:
        return 1
    if options.test:
        test = [python, "-m", "pytest", "-q", "-rs", "-n", "2", "-p", "no:cacheprovider", "tests/site"]
        return subprocess.run(test, cwd=ROOT, env={**environment, "TRREF_SITE": str(site)}, check=False).returncode
    return 0


def budget(pages, factor, whole=True):
    """Report how long tutorials ran; return whether that is beyond what a machine so much slower may take.

    The mean counts where these are all, and then there must be some.
    """
    seconds = {}
    for page in pages:
        match = re.search(r"\((\d+) minutes (\d+\.\d+) seconds\)", page.read_text(encoding="utf-8"))
        if match is None:
            print(f"{page.stem} states no run time", file=sys.stderr)
            return True
        seconds[page.stem] = (60 * int(match[1]) + float(match[2])) / factor
    if not seconds:
        print("no tutorial was run")
        return whole
    mean, longest = sum(seconds.values()) / len(seconds), max(seconds, key=seconds.get)
    print(
        f"{len(seconds)} tutorials ran in {mean:.1f} s of {MEAN:.0f} s on average; the longest, {longest}, in"
        f" {seconds[longest]:.1f} s of {LONGEST:.0f} s (of one idle core: this machine was {factor:.1f} times slower)"
    )
    for name in sorted(seconds, key=seconds.get, reverse=True):
        if seconds[name] > LONGEST:
            print(f"  over {LONGEST:.0f} s: {name}, {seconds[name]:.1f} s")
    over = (whole and mean > MARGIN * MEAN) or seconds[longest] > MARGIN * LONGEST
    if over:
        print(f"the tutorials take more than {MARGIN:g} times what they may", file=sys.stderr)
    return over


if __name__ == "__main__":
    sys.exit(main())
