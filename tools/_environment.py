"""Make or reuse .venv in the checkout. Standard library only."""

import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def python():
    """Return the path of the environment's Python."""
    return VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def ensure(*extras, alone=None, fresh=False):
    """Make `.venv` with the package (editable) and the given extras, unless that has been done; return its Python.

    What is there is asked each time, for the making may have been interrupted, and things get lost: a `.venv` without
    pip is made again, and an extra whose packages are not all there is installed again.

    `alone` is a file of requirements whose wheels are unpacked without their dependencies and off the import path, into
    a folder of the environment with the file's name.
    """
    if sys.version_info < OLDEST:
        _fail(f"Python {'.'.join(map(str, OLDEST))} or later is needed; this is {sys.version.split()[0]}")
    if fresh or not _answers("import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"):
        _remove(VENV)
        print(f"making {VENV}", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
        if made.returncode:
            _remove(VENV)
            _fail(
                f"Python's own venv module failed (on Debian it needs the package python3-venv):\n"
                f"{made.stdout}{made.stderr}"
            )
    state = hashlib.sha256((ROOT / "setup.py").read_bytes() + str(sys.version_info[:2]).encode()).hexdigest()
    for extra in extras:
        stamp = VENV / f"trref-{extra}"
        if stamp.exists() and stamp.read_text() == state and _answers(HAS_ALL, extra):
            continue
        stamp.unlink(missing_ok=True)
        print(f"installing the package with the extra '{extra}'", flush=True)
        command = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "-e", f"{ROOT}[{extra}]"], capture_output=True, text=True, check=False, cwd=ROOT
        )
        if done.returncode:
            _fail(f"pip could not install the extra '{extra}' of setup.py:\n{_missing(done.stdout + done.stderr)}")
        stamp.write_text(state)
    if alone:
        _unpack(alone)
    return str(python())


def _unpack(requirements):
    folder, stamp, state = VENV / requirements.stem, VENV / f"trref-{requirements.stem}", requirements.read_text()
    if stamp.exists() and stamp.read_text() == state and folder.is_dir() and any(folder.iterdir()):
        return
    stamp.unlink(missing_ok=True)
    print(f"unpacking what {requirements.relative_to(ROOT)} lists", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--ignore-requires-python", "--target", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        _fail(f"pip could not unpack {requirements.name}:\n{_missing(done.stdout + done.stderr)}")
    stamp.write_text(state)


HAS_ALL = r"""
import importlib.metadata, re, sys
for line in importlib.metadata.requires("trref"):
    requirement, _, marker = line.partition(";")
    if marker.strip().replace("'", '"') in ("", f'extra == "{sys.argv[1]}"'):
        importlib.metadata.distribution(re.match(r"[\w.-]+", requirement)[0])
"""
"""Ends well where the package and what it requires, with an extra, are installed."""


def _answers(program, *arguments):
    """Whether the environment's Python runs a program to a good end."""
    try:
        command = [str(python()), "-I", "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # there is none, or no program
        return False


def _remove(path):
    """Remove a folder, a file, or a link and not what it leads to; or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _missing(output):
    """The lines of pip's output that say what is missing."""
    lines = [line for line in output.splitlines() if "ERROR" in line or "No matching distribution" in line]
    return "\n".join(lines or output.splitlines()[-15:])


def _fail(message):
    sys.exit(f"cannot set up the environment: {message}")
