"""A picture of every function, from its record: what the settings and the deviations do to one example.

Objectives along one coordinate (those of tokens against the ratio, for both signs of the advantage), solvers by their
histories, everything else before and after. Functions that do the same in a picture share a curve.
"""

import dataclasses
import functools
import hashlib
import html
import pathlib
import shutil
import warnings

import numpy as np

from trref import backend, catalog, checks
from trref.checks.cases import example_of
from trref_site import drawing, tutorials

__all__ = ["leading", "panels", "portrait"]

CACHE = tutorials.ROOT / "build" / "portraits"

MOST = 4  # settings, and deviations
POINTS = 81
STEPS = 12  # of each pattern that update rules are fed with

FAILED = (ArithmeticError, TypeError, ValueError, LookupError, np.linalg.LinAlgError)

SYMBOLS = {
    "log_prob": "log π",
    "old_log_prob": "log π_old",
    "advantage": "A",
    "theta": "θ",
    "params": "θ",
    "reward": "R",
    "kl_weight": "β",
    "logits": "z",
}


def portrait(record):
    """Return the picture of a record as HTML; from build/portraits where nothing has changed since it was drawn."""
    kept = CACHE / _state() / f"{record.family}.{record.name}.html"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    drawn, words = panels(record)
    name = html.escape(f"{record.name.rpartition('.')[2]}()")
    text = drawing.figure(drawn, f"<code>{name}</code> {html.escape(words)}")
    for old in CACHE.glob("*") if not kept.parent.exists() else ():
        shutil.rmtree(old, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    return text


@functools.cache
def _state():
    """A hash of all that a picture can depend on: the package, and what draws."""
    sources = [
        *sorted((tutorials.ROOT / "trref").rglob("*.py")),
        pathlib.Path(__file__),
        pathlib.Path(drawing.__file__),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def leading(method):
    """The record whose picture says the most of a method: the function of its name, or what it minimises or solves."""
    order = [
        catalog.Objective,
        catalog.Solver,
        catalog.UpdateRule,
        catalog.Transform,
        catalog.Sampler,
        catalog.Estimator,
    ]
    return min(method.functions, key=lambda r: (r.f.__name__ != method.slug, order.index(type(r))))


def panels(record):
    """Return the panels of a record's picture, and in words what they show."""
    with backend.use_backend("numpy"), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for draw in DRAWERS[type(record)]:
            try:
                drawn, words = draw(record)
            except FAILED:
                continue  # the record has no such picture: a range that it refuses, a result of another shape
            if drawn and not any(map(drawing.is_empty, drawn)):
                return drawn, words
    raise ValueError(f"{record.name}: no picture")


# ------------------------------------------------------------------------------------------- settings and deviations


def _variants(record):
    """Name, whether it is a deviation, record and hyper-parameters of the first settings and deviations."""
    default = record.settings["default"]
    settings = [(name, hyper) for name, hyper in record.settings.items() if name != "probe"][:MOST]
    if len(settings) == 1 and "probe" in record.settings:
        settings.append(("probe", record.settings["probe"]))
    found = [(_named(name, hyper, default), False, record, hyper) for name, hyper in settings]
    for deviation in record.deviations[:MOST]:
        other = dataclasses.replace(record, f=deviation.f, inputs=record.inputs, settings={"default": {}})
        found.append((deviation.name, True, other, default))
    return found


def _named(name, hyper, default):
    if name == "default":
        return name
    changed = {k: v for k, v in hyper.items() if k not in default or not _same(default[k], v)}
    words = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v!r}" for k, v in changed.items())
    words = words if len(words) <= 46 else ""
    if name == "probe":
        return words or name
    return f"{name} ({words})" if words else name


def _same(a, b):
    return type(a) is type(b) and bool(np.all(a == b))


def _merged(curves):
    """Curves that lie on one another become one, with their names together."""
    groups = []
    for curve in curves:
        same = next((k for k, (first, _) in enumerate(groups) if all(map(_lies_on, first, curve))), None)
        if same is None:
            groups.append((curve, [curve[0].label]))
        else:
            groups[same][1].append(curve[0].label)
    return [tuple(dataclasses.replace(one, label=_together(names)) for one in curve) for curve, names in groups]


def _together(names):
    return names[0] + (f"; the same here: {', '.join(names[1:])}" if len(names) > 1 else "")


def _lies_on(a, b):
    if a.x.shape != b.x.shape:
        return False
    scale = np.nanmax(abs(a.y), initial=0.0)
    return bool(np.allclose(a.y, b.y, rtol=0, atol=3e-3 * scale, equal_nan=True))


def _curves(record, evaluate):
    """``evaluate(record, hyper) -> [(x, y), …]``, a pair a panel, for every variant; those that fail are left out."""
    found = []
    for label, dashed, variant, hyper in _variants(record):
        try:
            pairs = evaluate(variant, hyper)
        except FAILED:
            if label == "default":
                raise
            continue
        found.append(tuple(drawing.Curve(np.asarray(x, float), np.asarray(y, float), label, dashed) for x, y in pairs))
    return list(zip(*_merged(found), strict=True))


# ------------------------------------------------------------------------------------------------- along one coordinate


def _wanders(kind, x):
    """Where a number of this kind goes from x, within what is allowed."""
    if kind in ("prob", "simplex"):
        return np.linspace(0.02, 0.98, POINTS)
    if kind == "log_prob":
        return np.linspace(min(x, -0.1) - 2.0, min(max(x, -0.1) + 2.0, max(x, -0.02)), POINTS)
    if kind in ("positive", "nonnegative"):
        return np.linspace(0.02, 2.5, POINTS) * (x or 1.0)
    reach = max(2.0, 1.5 * abs(x))
    return np.linspace(x - reach, x + reach, POINTS)


def _replaced(inputs, name, index, value, kind):
    """The inputs with one number changed; the rest of a row of a simplex keeps its proportions."""
    array = inputs[name]
    if isinstance(array, list):
        return {**inputs, name: [_set(array[0], index, value), *array[1:]]}
    changed = _set(array, index, value)
    if kind == "simplex":
        row = index[:-1]
        rest = changed[row].sum() - value
        changed[row] *= (1 - value) / rest
        changed[index] = value
    return {**inputs, name: changed}


def _set(array, index, value):
    changed = np.array(array)
    changed[index] = value
    return changed


def _entry(name, index):
    place = f"[{', '.join(map(str, index))}]" if index else ""
    symbol = f"{SYMBOLS[name]} = " if name in SYMBOLS else ""
    return f"{symbol}{name}{place}"


def _candidates(array, gradient, count=3):
    """The entries that matter the most."""
    order = np.argsort(-abs(np.asarray(gradient, float)), axis=None, kind="stable")[:count]
    return [np.unravel_index(int(k), np.shape(array)) for k in order]


def _part(record, gradient, name):
    return getattr(gradient, name) if len(record.wrt_names) > 1 else gradient


def _objective(record):
    """Value and gradient along the coordinate on which the variants differ the most."""
    best = (-1.0, None)
    for seed in record.seeds[:2]:
        inputs = example_of(record, record.sizes[0], seed)
        _, gradient = checks.run(record, inputs, record.settings["default"])
        for name in record.wrt_names:
            kind, slope = record.inputs[name].kind, _part(record, gradient, name)
            if kind == "orthonormal":
                continue
            array, slope = (inputs[name][0], slope[0]) if isinstance(slope, list) else (inputs[name], slope)
            for index in _candidates(array, slope):
                path = _wanders(kind, float(array[index]))
                drawn = _along(record, inputs, name, index, kind, path[:: POINTS // 8])
                # curves that differ, that bend, of an argument that comes first
                score = len(drawn[0]) + _bend(drawn[1][0].y) - 0.1 * record.wrt_names.index(name)
                best = max(best, (score, (inputs, name, index, kind, path)), key=lambda pair: pair[0])
    if best[1] is None:
        return _along_the_manifold(record)
    inputs, name, index, kind, path = best[1]
    value, slope = _along(record, inputs, name, index, kind, path)
    x = _entry(name, index)
    return (
        drawing.Panel("value", x, "loss", value),
        drawing.Panel("gradient", x, f"∂ loss / ∂ {name}", slope),
    ), "along one coordinate of an example, under its settings (lines) and as public code deviates (dashed)."


def _bend(y):
    """How far a curve is from a straight line, between 0 and 1."""
    y = y[np.isfinite(y)]
    if len(y) < 3 or np.ptp(y) == 0:
        return 0.0
    return min(1.0, float(np.ptp(np.diff(y)) / np.ptp(y)))


def _along(record, inputs, name, index, kind, path):
    def evaluate(variant, hyper):
        values, slopes = np.full(len(path), np.nan), np.full(len(path), np.nan)
        for k, x in enumerate(path):
            try:
                value, gradient = checks.run(variant, _replaced(inputs, name, index, x, kind), hyper)
            except ValueError:  # out of what the function accepts
                continue
            part = gradient if len(record.wrt_names) == 1 else _of(gradient, record, name)
            part = part[0] if isinstance(part, list) else part
            values[k], slopes[k] = value, part[index]
        return (path, values), (path, slopes)

    return _curves(record, evaluate)


def _of(gradient, record, name):
    """A deviation may give a plain tuple."""
    return gradient[record.wrt_names.index(name)] if not hasattr(gradient, name) else getattr(gradient, name)


def _along_the_manifold(record):
    """Objectives of frames: along the line of the gradient, brought back to the manifold."""
    inputs = example_of(record, record.sizes[0])
    _, gradient = checks.run(record, inputs, record.settings["default"])
    name = next(n for n in record.wrt_names if record.inputs[n].kind == "orthonormal")
    direction = _part(record, gradient, name)
    direction = direction / np.linalg.norm(direction)
    path = np.linspace(-1.5, 1.5, POINTS)

    def at(t):
        q, r = np.linalg.qr(inputs[name] + t * direction)
        return {**inputs, name: q * np.sign(np.diag(r))}

    def evaluate(variant, hyper):
        values = [checks.run(variant, at(t), hyper) for t in path]
        lengths = [np.linalg.norm(_of(g, record, name) if len(record.wrt_names) > 1 else g) for _, g in values]
        return (path, [float(v) for v, _ in values]), (path, lengths)

    value, length = _curves(record, evaluate)
    x = f"t, along the gradient at {name}"
    return (
        drawing.Panel("value", x, "loss", value),
        drawing.Panel("gradient", x, f"length of ∂ loss / ∂ {name}", length),
    ), "along a line through the example that is brought back to the manifold at every point."


# ------------------------------------------------------------------------------------------------------------- tokens


def _against_the_ratio(record):
    """The weight of one answer's tokens (or of one sample) against its ratio, for both signs of the advantage."""
    old = next((n for n in ("old_log_prob", "behavior_log_prob") if n in record.inputs), None)
    if old is None or "log_prob" not in record.wrt_names or not {"advantage", "reward"} & set(record.inputs):
        raise ValueError("not against a ratio")
    inputs = example_of(record, record.sizes[-2], 0)
    inputs = {**inputs, "log_prob": np.array(inputs[old])}
    row = int(np.argmax(np.sum(inputs["mask"], axis=1))) if "mask" in inputs else 0
    path = np.linspace(0.3, 2.6, POINTS)
    signed = [_signed(inputs, row, sign) for sign in (1, -1)]

    def weight(variant, hyper, inputs, ratio):
        log_prob, base = np.array(inputs["log_prob"]), np.array(inputs[old])
        base[row] = -1.2
        log_prob[row] = -1.2 + np.log(ratio)
        _, gradient = checks.run(variant, {**inputs, "log_prob": log_prob, old: base}, hyper)
        gradient = gradient if len(record.wrt_names) == 1 else _of(gradient, record, "log_prob")
        return -float(np.sum(gradient[row]))

    def evaluate(variant, hyper):
        return [(path, [weight(variant, hyper, inputs, ratio) for ratio in path]) for inputs in signed]

    drawn = _curves(record, evaluate)
    if not any(curve.y.any() for curves in drawn for curve in curves):
        raise ValueError("nothing to see")
    what = "of one answer" if np.ndim(inputs["log_prob"]) == 2 else "of one sample"
    x, y = f"r = exp(log_prob − {old})", f"−∂ loss / ∂ log_prob {what}"
    return tuple(
        drawing.Panel(f"{words} advantage", x, y, curves)
        for words, curves in zip(("positive", "negative"), drawn, strict=True)
    ), (
        f"gives the log-probabilities this weight, as the ratio r {what} moves: positive raises the probability, 0 is a"
        " clip. Settings are lines, deviations of public code dashed."
    )


def _signed(inputs, row, sign):
    if "advantage" in inputs:
        advantage = np.array(inputs["advantage"], float)
        advantage[row] = sign
        inputs = {**inputs, "advantage": advantage}
    if "reward" in inputs:
        reward = np.full(np.shape(inputs["reward"]), float(sign < 0))
        reward[row] = float(sign > 0)
        inputs = {**inputs, "reward": reward}
    return inputs


# ------------------------------------------------------------------------------------------------------------ solvers


def _solver(record):
    """The histories of the default and of other settings on an example."""
    inputs = example_of(record, record.sizes[-2], record.seeds[0])
    result = checks.run(record, inputs, record.settings["default"])
    fields = [f for f in result._fields if _is_history(getattr(result, f))][:2]
    if not fields:
        raise ValueError("no history")

    def evaluate(variant, hyper):
        result = checks.run(variant, inputs, hyper)
        histories = [np.asarray(getattr(result, f), float).ravel() for f in fields]
        return [(np.arange(len(h)), h) for h in histories]

    drawn = _curves(record, evaluate)
    return tuple(
        drawing.Panel(field.replace("_", " "), "iteration", field, curves, log=_wants_log(curves))
        for field, curves in zip(fields, drawn, strict=True)
    ), "on an example of its record, under its settings (lines) and as public code deviates (dashed)."


def _is_history(value):
    return isinstance(value, list | tuple) and len(value) > 2 and all(np.ndim(v) == 0 for v in value)


def _wants_log(curves):
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    positive = values[values > 0]
    return len(positive) >= 0.8 * len(values) and np.max(positive) > 30 * np.min(positive) and not (values < 0).any()


# -------------------------------------------------------------------------------------------------------- update rules


def _update_rule(record):
    """The step of one parameter, while its gradient is steady, gone, and then alternates."""
    example = example_of(record, record.sizes[0], record.seeds[0])
    first = example["gradients"][0]
    pattern = np.concatenate([np.ones(STEPS), np.zeros(STEPS), (-1.0) ** np.arange(STEPS)])
    index = _candidates(first[0], first[0], 1)[0]
    steps = np.arange(len(pattern))

    def evaluate(variant, hyper):
        params, state = example["params"], variant.init(example["params"])
        path = [float(params[0][index])]
        for share in pattern:
            fed = [share * g for g in first]
            params, state = variant.f(params, fed, state, **variant.at_step(example, 0), **hyper)
            path.append(float(params[0][index]))
        return ((steps, np.diff(path)),)

    (curves,) = _curves(record, evaluate)
    fed = (drawing.Curve(steps, pattern * first[0][index], "what is fed in"),)
    place = f"[0][{', '.join(map(str, index))}]"
    return (
        drawing.Panel("before: the gradient", "step", f"g = grads{place}", fed),
        drawing.Panel("after: the step", "step", f"change of θ = params{place}", curves),
    ), "answers a gradient that is steady, then gone, then alternates; settings are lines, deviations dashed."


# ----------------------------------------------------------------------------------------------------- before and after


def _arrays(inputs):
    """The arrays of reals among the inputs that can be shown."""
    return {n: np.asarray(v, float) for n, v in inputs.items() if np.ndim(v) and np.asarray(v).dtype.kind in "fiub"}


def _fields(result):
    """Name and array of each numeric part of a result."""
    if hasattr(result, "_fields"):
        pairs = [(f, getattr(result, f)) for f in result._fields]
    else:
        pairs = [("result", result)]
    return {n: np.asarray(v, float) for n, v in pairs if not isinstance(v, list | dict | str | type(None))}


def _response(record):
    """The result against one entry of an input: of what works entry by entry, and of what gives a number."""
    best = (0.0, None)
    if record.tolerance > 0 or "max_iter" in record.hyper_parameters:
        raise ValueError("an inner iteration: too slow to ask hundreds of times")
    for seed in record.seeds[:2]:
        inputs = example_of(record, record.sizes[0], seed)
        result = _fields(checks.run(record, inputs, record.settings["default"]))
        for order, (name, spec) in enumerate(record.inputs.items()):
            if spec.kind in ("callable", "arrays", "orthonormal", "mask") or inputs.get(name) is None:
                continue
            array = np.asarray(inputs[name])
            for k in range(min(array.size, 3)):
                index = np.unravel_index(k, array.shape)
                path = _walk(array, spec.kind, index)
                some = path[:: max(1, len(path) // 8)]
                fields = _responding(record, inputs, name, index, spec.kind, some, result)
                if not fields:
                    continue
                drawn = _responses(record, inputs, name, index, spec.kind, some, fields)
                score = 1 + len(drawn[0]) + _bend(drawn[0][0].y) - 0.2 * order
                best = max(best, (score, (inputs, name, index, spec.kind, path, fields)), key=lambda pair: pair[0])
    if best[1] is None:
        raise ValueError("nothing responds entry by entry")
    inputs, name, index, kind, path, fields = best[1]
    drawn = _responses(record, inputs, name, index, kind, path, fields)
    if fields[0][1] and max(_bend(curve.y) for curves in drawn for curve in curves) < 0.05:
        raise ValueError("straight lines: all entries together say more")
    return tuple(
        drawing.Panel(_title(field), _entry(name, index), _title(field) + _place(where), curves, kind="line")
        for (field, where), curves in zip(fields, drawn, strict=True)
    ), "as one entry of an input moves; settings are lines, deviations of public code dashed."


def _title(field):
    return field.replace("_", " ")


def _place(where):
    return f"[{', '.join(map(str, where))}]" if where else ""


def _walk(array, kind, index):
    if kind == "index" or array.dtype.kind in "iu":
        return np.arange(0, max(8, 2 * int(array.max()) + 1))
    return _wanders(kind, float(array[index]))


def _responding(record, inputs, name, index, kind, path, result):
    """The fields that are numbers, or of which the same entry alone moves; with that entry."""
    moved = {}
    for x in path:
        try:
            now = _fields(checks.run(record, _replaced(inputs, name, index, x, kind), record.settings["default"]))
        except ValueError:
            continue
        for field, array in now.items():
            if array.shape == result[field].shape:
                changed = ~np.isclose(array, result[field], rtol=1e-9, atol=1e-12, equal_nan=True)
                moved[field] = moved.get(field, np.zeros(array.shape, bool)) | changed
    found = []
    for field, changed in moved.items():
        if changed.ndim == 0 and changed:
            found.append((field, ()))
        elif changed.ndim and changed.size > 1 and changed.sum() == 1:
            found.append((field, tuple(int(i[0]) for i in np.nonzero(changed))))
    return found[:3]


def _responses(record, inputs, name, index, kind, path, fields):
    def evaluate(variant, hyper):
        rows = []
        for x in path:
            try:
                result = _fields(checks.run(variant, _replaced(inputs, name, index, x, kind), hyper))
                values = list(result.values())
                rows.append([float((result.get(f, values[0]))[where]) for f, where in fields])
            except ValueError:
                rows.append([np.nan] * len(fields))
        return [(path, column) for column in zip(*rows, strict=True)]

    return _curves(record, evaluate)


def _before_and_after(record):
    """An input and the result, entry by entry: vectors as stems, matrices as fields of colour."""
    size = record.sizes[min(1, len(record.sizes) - 2)]
    inputs = example_of(record, size, record.seeds[0])
    results = _fields(checks.run(record, inputs, record.settings["default"]))
    field = max(results, key=lambda n: (results[n].ndim > 0, results[n].size <= 4096, n == "result"))
    after = results[field]
    name = _input_like(record, inputs, after)
    if after.ndim >= 2 and min(_flat(after).shape) > 1:
        return _heats(record, inputs, name, field)

    def evaluate(variant, hyper):
        result = _fields(checks.run(variant, inputs, hyper))
        values = np.ravel(result.get(field, next(iter(result.values()))))[:24]
        return ((np.arange(len(values)), values),)

    (curves,) = _curves(record, evaluate)
    shown = []
    if name:
        before = np.ravel(inputs[name])[:24].astype(float)
        first = drawing.Curve(np.arange(len(before)), before, "what is put in")
        shown.append(drawing.Panel("before", "entry", _named_symbol(name), (first,), kind="points"))
    shown.append(drawing.Panel("after", "entry", _title(field), curves, kind="points"))
    return tuple(shown), "on an example of its record, under its settings and as public code deviates."


def _named_symbol(name):
    return f"{SYMBOLS[name]} = {name}" if name in SYMBOLS else name


def _flat(array):
    return array.reshape(-1, array.shape[-1])[:16, :16]


def _input_like(record, inputs, after):
    """The input to show beside the result: what it is with respect to, else the first of its shape, numbers first."""
    arrays = _arrays(inputs)
    names = sorted(arrays, key=lambda n: (arrays[n].shape != after.shape, record.inputs[n].kind in ("index", "mask")))
    wrt = getattr(record, "wrt", None)
    return wrt if wrt in arrays else next(iter(names), None)


def _heats(record, inputs, name, field):
    found = []
    for label, _, variant, hyper in _variants(record):
        try:
            result = _fields(checks.run(variant, inputs, hyper))
        except FAILED:
            continue
        values = _flat(result.get(field, next(iter(result.values()))))
        if not any(v.shape == values.shape and np.allclose(v, values, rtol=0, atol=1e-3) for _, v in found):
            found.append((label, values))
    found = found[:3]
    most = max(float(np.nanmax(abs(v))) for _, v in found)
    shown = []
    if name is not None:
        before = np.asarray(inputs[name], float)
        before = _flat(before if before.ndim > 1 else before[None])
        shown.append(drawing.Heat(f"before: {name}", "column", "row", before, float(np.nanmax(abs(before)))))
    words = "result" if field == "result" else _title(field)
    titles = [f"after: {words}" if label == "default" else label for label, _ in found]
    shown += [drawing.Heat(t, "column", "row", v, most) for t, (_, v) in zip(titles, found, strict=True)]
    return tuple(shown), "on an example of its record; blue is positive, orange negative, and strong is large."


def _over_examples(record):
    """A number, for examples of several seeds."""
    seeds = range(12)

    def evaluate(variant, hyper):
        numbers = []
        for seed in seeds:
            result = _fields(checks.run(variant, example_of(record, record.sizes[0], seed), hyper))
            numbers.append([float(array) for array in result.values() if array.ndim == 0][:3])
        return [(np.arange(len(seeds)), column) for column in zip(*numbers, strict=True)]

    some = _fields(checks.run(record, example_of(record, record.sizes[0]), record.settings["default"]))
    names = [name for name, array in some.items() if array.ndim == 0][:3]
    return tuple(
        drawing.Panel(_title(name), "example", _title(name), curves, kind="points")
        for name, curves in zip(names, _curves(record, evaluate), strict=True)
    ), "on twelve examples of its record, under its settings and as public code deviates."


def _sampler(record):
    """Histograms of what is drawn, a curve a coordinate."""
    inputs = example_of(record, record.sizes[0], record.seeds[0])

    def evaluate(variant, hyper):
        draws = np.asarray(checks.run(variant, inputs, hyper), float)
        draws = draws.reshape(len(draws), -1)[:, 0]
        heights, edges = np.histogram(draws, bins=min(24, max(6, len(draws) // 8)), density=True)
        return ((0.5 * (edges[1:] + edges[:-1]), heights),)

    (curves,) = _curves(record, evaluate)
    shown = (drawing.Panel("draws", "x = first coordinate", "density", curves),)
    return shown, "draws this, under its settings (lines) and as public code deviates (dashed)."


DRAWERS = {
    catalog.Objective: (_against_the_ratio, _objective),
    catalog.Solver: (_solver, _before_and_after),
    catalog.UpdateRule: (_update_rule,),
    catalog.Estimator: (_response, _before_and_after, _over_examples),
    catalog.Transform: (_before_and_after, _over_examples),
    catalog.Sampler: (_sampler,),
}
