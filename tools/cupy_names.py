"""Regenerate trref/cupy_names.json: what CuPy offers, read from an installed CuPy (its wheel imports without a GPU).

    python -m venv /tmp/cupy && /tmp/cupy/bin/pip install "cupy-cuda12x>=14" scipy
    /tmp/cupy/bin/python tools/cupy_names.py

The file maps each function of cupy, cupy.linalg, cupyx.scipy.special and cupyx.scipy.sparse, and each method of the
arrays and sparse matrices, to its keywords; null stands for "no signature to be had: any keyword", and for what is no
function.
"""

import inspect
import json
import pathlib
import re


def keywords(obj):
    """Return the names of the parameters of a function, ufunc or Cython method, or None."""
    if not callable(obj):
        return None
    if "fusion" in type(obj).__module__ or type(obj).__name__ in ("ufunc", "_SimpleReductionKernel"):
        first = (obj.__doc__ or "").strip().split("\n")[0]
        return _from_text(first) or ["out", "casting", "dtype"]
    try:
        parameters = list(inspect.signature(obj).parameters.values())
    except (TypeError, ValueError):
        return _from_text((obj.__doc__ or "").strip().split("\n")[0])
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL and p.kind is not p.VAR_KEYWORD]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [n for n in names if n != "self"]


def _from_text(line):
    """Read the keywords from a documented signature such as ``sum(self, axis=None, dtype=None) -> ndarray``."""
    match = re.match(r"[\w.]+\((.*)\)", line)
    if not match:
        return None
    names = []
    for part in re.sub(r"[\[\]]", "", match[1]).split(","):
        name = part.split("=")[0].strip().split(" ")[-1].strip("\\*")
        if name.isidentifier() and name != "self":
            names.append(name)
    return names


def listing(namespace):
    """Return name -> keywords for the public names of a module or class."""
    return {
        name: keywords(getattr(namespace, name))
        for name in sorted(dir(namespace))
        if not name.startswith("_") and not inspect.ismodule(getattr(namespace, name))
    }


def main():
    import cupy
    import cupyx.scipy.sparse
    import cupyx.scipy.special

    names = {
        "version": cupy.__version__,
        "xp": listing(cupy),
        "linalg": listing(cupy.linalg),
        "special": listing(cupyx.scipy.special),
        "sparse": listing(cupyx.scipy.sparse),
        "ndarray": listing(cupy.ndarray),
        "sparse_matrix": {
            kind: listing(getattr(cupyx.scipy.sparse, kind)) for kind in ("csr_matrix", "csc_matrix", "coo_matrix")
        },
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "trref" / "cupy_names.json"
    path.write_text(json.dumps(names, indent=0, sort_keys=True) + "\n")
    print(f"{path}: CuPy {names['version']}, {len(names['xp'])} names, {len(names['ndarray'])} array methods")


if __name__ == "__main__":
    main()
