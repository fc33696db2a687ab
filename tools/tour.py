"""The main job: python3 tools/tour.py [--fresh].

Makes .venv (reused afterwards), then checks the contracts of the whole catalogue, verifies two example implementations
(one right, one with a realistic bug), and runs a showcase on real data. It writes build/tour/index.html, one page that
needs nothing else, and ends with a non-zero status if anything that it checked failed.
"""

import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="rebuild .venv")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return tour()
    sys.path.insert(0, str(ROOT / "tools"))
    import _environment

    python = _environment.ensure("tour", fresh=options.fresh)
    environment = {**os.environ, **_environment.ONE_THREAD, "MPLBACKEND": "agg"}
    command = [python, __file__, "--inside"]
    if sys.platform != "win32":
        os.execve(python, command, environment)  # one process, so that whoever ends it ends the tour
    return subprocess.run(command, env=environment, check=False).returncode


# ------------------------------------------------------------------------------------------ inside the environment


def tour():
    """Run all parts; return the exit status."""
    import time

    from tqdm import tqdm

    from trref import catalog

    start, failures = time.perf_counter(), []
    parts = len(catalog.methods()) + len(EXAMPLES) + len(RADII) * len(SEEDS) + 2 + len(LEARNERS) * len(LEARNING_SEEDS)
    with tqdm(total=parts, unit="part", file=sys.stdout) as bar:
        contracts = _contracts(bar, failures)
        verdicts = _verdicts(bar, failures)
        sections = [f(bar, failures) for f in (_digits, _transport, _components, _cartpole)]
    seconds = time.perf_counter() - start
    page = ROOT / "build" / "tour" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_page(contracts, verdicts, sections, failures, seconds), encoding="utf-8")
    print(f"{len(failures)} failures in {seconds:.0f} s; the report is {page}")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures else 0


EXAMPLES = [("clipped_surrogate.py", True), ("clipped_surrogate_with_a_bug.py", False)]
RADII, SEEDS = (0.0, 0.1, 0.3), (0, 1, 2)
LEARNERS, LEARNING_SEEDS, DELTA = ("trpo", "ppo"), (0, 1, 2, 3, 4), 0.01


def _contracts(bar, failures):
    """(a) Run the contracts; return a row a method."""
    from trref import catalog
    from trref.checks import check_methods

    rows = []
    for method, outcomes in check_methods(catalog.methods()):
        wrong = [o for o in outcomes if o.error]
        failures += [f"{o.function}, {o.contract}: {o.error}" for o in wrong]
        row = (method, len(outcomes), len(wrong), sum(o.seconds for o in outcomes))
        rows.append(row)
        bar.write(f"{'FAIL' if wrong else 'ok':5} {method.slug:24} {len(outcomes):3} contracts {row[3]:7.2f} s")
        bar.update()
    return rows


def _verdicts(bar, failures):
    """(b) Verify the examples; return (file, source, verdict)."""
    from trref.conformance import verify
    from trref.conformance.load import load

    results = []
    for file, right in EXAMPLES:
        path = ROOT / "examples" / file
        verdict = verify("ppo.clipped_surrogate", load(f"{path}:loss"))
        if verdict.conforms != right:
            failures.append(f"{file}: expected to {'conform' if right else 'deviate'}")
        bar.write(f"examples/{file}\n{verdict}")
        bar.update()
        results.append((file, path.read_text(), verdict))
    return results


def _digits(bar, failures):
    """Digits with 30 % of the labels replaced: Adam against SAM, with the curvature at the end."""
    from trref.experiments.classifiers import digits_task, train
    from trref.sharpness.sam import perturbed_gradient

    task, results = digits_task(noise=0.3), {}
    for rho in RADII:
        at_worst = (lambda loss, theta, rng, rho=rho: perturbed_gradient(loss, theta, rho=rho)) if rho else None
        for seed in SEEDS:
            last = results[rho, seed] = train(task, seed=seed, gradient=at_worst, epochs=120, lr=2e-3)
            figures = f"accuracy {last.accuracies[-1]:.3f}, curvature {last.curvature:.2f}"
            bar.write(f"digits, radius {rho:g}, seed {seed}: {figures}")
            bar.update()
    for seed in SEEDS:
        plain, sharp = results[0.0, seed], results[0.3, seed]
        if not (sharp.accuracies[-1] > plain.accuracies[-1] and sharp.curvature < plain.curvature):
            failures.append(f"digits, seed {seed}: SAM is not both flatter and more accurate")
    table = "".join(
        f"<tr><td>{f'SAM, radius {rho:g}' if rho else 'Adam'}</td>"
        f"<td class=n>{_mean([results[rho, s].accuracies[-1] for s in SEEDS])}</td>"
        f"<td class=n>{_mean([results[rho, s].losses[-1] for s in SEEDS])}</td>"
        f"<td class=n>{_mean([results[rho, s].curvature for s in SEEDS])}</td></tr>"
        for rho in RADII
    )
    return f"""<h2>Handwritten digits: Adam and SAM</h2>
<p>400 training images, 30 % of the labels replaced at random; a network 64-100-10 with backpropagation by hand; three
seeds, mean and standard deviation. The band is one standard error.</p>
{_figure_digits(results)}
<div class="wide"><table><thead><tr><th>gradient</th><th class=n>test accuracy</th><th class=n>training loss</th>
<th class=n>top Hessian eigenvalue</th></tr></thead><tbody>{table}</tbody></table></div>"""


def _figure_digits(results):
    from trref.experiments.figures import spread, use_style

    plt = use_style()
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
    for rho in RADII:
        name = f"SAM, radius {rho:g}" if rho else "Adam"
        some = [results[rho, seed] for seed in SEEDS]
        epochs = range(1, len(some[0].losses) + 1)
        spread(axes[0], epochs, [r.losses for r in some], name)
        line = spread(axes[1], epochs, [r.accuracies for r in some], name)
        axes[2].plot([r.curvature for r in some], [r.accuracies[-1] for r in some], "o", color=line.get_color())
    axes[0].set(xlabel="epoch", ylabel="training loss (noisy labels)")
    axes[1].set(xlabel="epoch", ylabel="test accuracy")
    axes[2].set(xlabel="top Hessian eigenvalue", ylabel="test accuracy")
    axes[0].legend()
    return _svg(figure, "Training loss, test accuracy and curvature of Adam and SAM on the digits")


def _transport(bar, failures):
    """Two handwritten digits: Sinkhorn against Sinkhorn-Newton-Sparse."""
    from trref.experiments.figures import use_style
    from trref.experiments.transport import digit_transport

    result, plt = digit_transport(), use_style()
    figure, axes = plt.subplots(1, len(result.between), figsize=(10, 1.6))
    for axis, image, t in zip(axes, result.between, result.times, strict=True):
        axis.imshow(image, cmap="Blues")
        axis.set(xticks=[], yticks=[], xlabel=f"{t:.2f}")
        axis.grid(False)
    pictures = _svg(figure, "One digit becomes another along the transport plan")
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
    for name, trace in result.traces.items():
        axes[0].loglog(trace.iterations, trace.errors, "o-", label=name)
        axes[1].loglog(trace.seconds, trace.errors, "o-", label=name)
        bar.write(f"transport, {name}: {trace.errors[-1]:.1e} after {trace.iterations[-1]} iterations")
    axes[0].set(xlabel="iteration", ylabel="marginal error (L1)")
    axes[1].set(xlabel="seconds")
    axes[0].legend()
    traces = _svg(figure, "Marginal error by iteration and by time for Sinkhorn and Sinkhorn-Newton-Sparse")
    newton = min(trace.errors[-1] for name, trace in result.traces.items() if "newton" in name.lower())
    if not newton <= 1e-10:
        failures.append(f"transport: Sinkhorn-Newton-Sparse ends at a marginal error of {newton:.1e}")
    bar.update()
    return f"""<h2>Transport between two handwritten digits</h2>
<p>A 0 becomes a 1 along the entropic transport plan, at a regularisation of 1/1200 of the largest cost; the numbers are
the share of the way. Below, the marginal error of both solvers, by iteration and by time.</p>{pictures}{traces}"""


def _components(bar, failures):
    """Decentralised principal components of the digits on a ring of 8 agents."""
    from trref.experiments.figures import use_style
    from trref.experiments.manifolds import decentralised_components

    results, plt = decentralised_components(), use_style()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    for name, result in results.items():
        axes[0].semilogy(result.gaps, label=name)
        axes[1].plot(result.consensus_errors, label=name)
        bar.write(f"components, {name}: gap {result.gaps[-1]:.1e}, consensus error {result.consensus_errors[-1]:.2f}")
    axes[0].set(xlabel="iteration", ylabel="missing share of the variance")
    axes[1].set(xlabel="iteration", ylabel="consensus error")
    axes[0].legend()
    capped, plain = (next(r for n, r in results.items() if text in n) for text in ("DRCGD", "DPRGD"))
    if not capped.gaps[-1] < plain.gaps[-1]:
        failures.append("components: conjugate gradients are not ahead of gradient descent")
    bar.update()
    return f"""<h2>Principal components of the digits, on a ring of 8 agents</h2>
<p>Each agent holds an eighth of the images and talks to two neighbours. Against the eigendecomposition of all images:
conjugate gradients (with the coefficient capped) are ahead in the objective; gradient descent keeps the agents closer
together.</p>{_svg(figure, "Gap to the eigendecomposition and consensus error by iteration")}"""


def _cartpole(bar, failures):
    """TRPO and PPO on cart-pole."""
    from trref.experiments.control import evaluate, learn_cartpole
    from trref.experiments.figures import spread, use_style

    runs = {}
    for method in LEARNERS:
        for seed in LEARNING_SEEDS:
            result = learn_cartpole(method, seed=seed, steps=90_000, delta=DELTA)
            score = float(evaluate(result.theta, seed=[seed, 1]).mean())
            runs[method, seed] = (result, score)
            bar.write(f"cart-pole, {method}, seed {seed}: mean return {score:.1f} over 100 episodes")
            bar.update()
    trpo = [runs["trpo", seed] for seed in LEARNING_SEEDS]
    if sum(score >= 475 for _, score in trpo) < 4:
        failures.append("cart-pole: TRPO solves it for fewer than 4 of 5 seeds")
    if max(max(result.divergences) for result, _ in trpo) > DELTA * (1 + 1e-9):
        failures.append("cart-pole: an update of TRPO exceeds its bound")
    plt = use_style()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    for method in LEARNERS:
        some = [runs[method, seed][0] for seed in LEARNING_SEEDS]
        thousands = [s / 1000 for s in some[0].steps]
        line = spread(axes[0], thousands, [r.returns for r in some], method.upper())
        for r in some:
            axes[1].plot(thousands, r.divergences, ".", color=line.get_color(), markersize=4)
    axes[0].axhline(475, linestyle=":", color="#8c8c8c")
    axes[1].axhline(DELTA, linestyle=":", color="#8c8c8c")
    axes[0].set(xlabel="thousand steps", ylabel="return of an episode")
    axes[1].set(xlabel="thousand steps", ylabel="mean KL of an update (nats)", yscale="log")
    axes[0].legend()
    solved = ", ".join(
        f"{method.upper()} {sum(runs[method, s][1] >= 475 for s in LEARNING_SEEDS)}" for method in LEARNERS
    )
    return f"""<h2>Cart-pole: TRPO and PPO</h2>
<p>Five seeds, 90,000 steps, advantages by GAE with termination and truncation kept apart. Solved (mean return of at
least 475 over 100 episodes), of 5 seeds: {solved}. TRPO keeps every update within its bound (dotted); PPO has none.</p>
{_svg(figure, "Learning curves of TRPO and PPO over five seeds, and the divergence of each update")}"""


def _svg(figure, description):
    """Return a figure as inline SVG that a screen reader can name."""
    import html
    import io

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    label = html.escape(description, quote=True)
    return f"<figure>{text.replace('<svg', f'<svg role=img aria-label={chr(34)}{label}{chr(34)}', 1)}</figure>"


STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --line: #d1d9e0; --good: #116329;
  --bad: #b3261e; --code: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --line: #30363d;
  --good: #7ee787; --bad: #ff8f87; --code: #161b22; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 62rem; padding: 1.5rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--code); padding: .8rem; white-space: pre-wrap; font-size: .85rem; border-radius: 6px; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.soft { color: var(--soft); } figure { margin: 1rem 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
summary { cursor: pointer; padding: .25rem 0; } .wide { overflow-x: auto; } .pair > div { min-width: 0; }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
"""


def _page(contracts, verdicts, sections, failures, seconds):
    import html
    import platform

    import numpy

    import trref

    esc = html.escape
    families = "".join(
        _folded(family, [row for row in contracts if row[0].family == family])
        for family in dict.fromkeys(method.family for method, *_ in contracts)
    )
    pair = "".join(
        f"<div><h3>{esc(file)}: <span class={'good' if v.conforms else 'bad'}>"
        f"{'conforms' if v.conforms else 'deviates'}</span></h3><pre>{esc(source)}</pre><pre>{esc(str(v))}</pre></div>"
        for file, source, v in verdicts
    )
    verdict = (
        f'<span class="bad">{len(failures)} failure{"s" * (len(failures) > 1)}</span>'
        if failures
        else '<span class="good">everything held</span>'
    )
    listed = "".join(f"<li>{esc(f)}</li>" for f in failures)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>trref: the tour</title><style>{STYLE}</style></head><body>
<h1>trref: the tour</h1>
<p>{verdict} in {seconds:.0f} s. <span class="soft">trref {trref.__version__}, NumPy {numpy.__version__}, Python
{platform.python_version()}, {esc(platform.machine())}.</span></p><ul class="bad">{listed}</ul>
<h2>Two implementations, verified</h2>
<p>The same loss twice, as trainers write it. The second one lost the maximum with the unclipped term in a tidy-up.</p>
<div class="pair">{pair}</div>
{"".join(sections)}
<h2>Contracts of the whole catalogue</h2>
<p>Every function: documented, pure, right in float32, right on a device that behaves like CuPy's, clear about bad
input; gradients against differences, projections idempotent, solvers with their certificate, estimators against brute
force. {sum(n for _, n, _, _ in contracts)} contracts of {len(contracts)} methods; a family opens with a click.</p>
{families}
</body></html>
"""


def _folded(family, rows):
    """The contracts of a family's methods, folded unless one failed."""
    import html

    wrong, count = sum(w for _, _, w, _ in rows), sum(n for _, n, _, _ in rows)
    verdict = f"<span class=bad>{wrong} failed</span>" if wrong else "<span class=good>hold</span>"
    table = "".join(
        f"<tr><td>{html.escape(m.slug)}</td><td>{html.escape(m.title)}</td><td class=n>{n}</td>"
        f"<td class={'bad' if w else 'good'}>{f'{w} failed' if w else 'hold'}</td><td class=n>{s:.2f}</td></tr>"
        for m, n, w, s in rows
    )
    methods = f"{len(rows)} method{'s' * (len(rows) > 1)}"
    return f"""<details{" open" * bool(wrong)}><summary>{family}: {methods}, {count} contracts, {verdict}</summary>
<div class="wide"><table><thead><tr><th>method</th><th>paper</th><th class=n>contracts</th><th></th>
<th class=n>seconds</th></tr></thead><tbody>{table}</tbody></table></div></details>"""


def _mean(values):
    import statistics

    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    sys.exit(main())
