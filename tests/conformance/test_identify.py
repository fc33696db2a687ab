"""Which catalogued function is it?"""

import json

import numpy as np
import pytest

from trref import catalog, checks, cli
from trref.conformance import identify
from trref.conformance.identify import candidates, equal_candidates


def _surrogate(log_prob, old_log_prob, advantage):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 0.9, 1.1) * advantage).mean()


def test_a_setting_is_found():
    found = identify(_surrogate, "surrogate")
    assert [m.candidate.text for m in found.exact] == ["ppo.clipped_surrogate [atari]"]
    assert "EXACT" in str(found) and "compared: value" in str(found)


def test_a_deviation_is_found():
    deviation = catalog.find("ppo.clipped_surrogate").deviations[0]
    found = identify(deviation.f, "surrogate")
    assert found.exact[0].candidate.deviation is deviation
    assert found.compared == "gradient and value"


def test_nearest():
    found = identify(
        lambda log_prob, old_log_prob, advantage: 1.001 * _surrogate(log_prob, old_log_prob, advantage), "surrogate"
    )
    assert not found.exact and "nearest: ppo.clipped_surrogate [atari]" in str(found) and "parts on" in str(found)


INTERFACES = sorted(
    {
        r.interface.name.split(" ")[0]
        for r in catalog.records()
        if r.interface and isinstance(r, catalog.Objective | catalog.Transform | catalog.Estimator)
    }
)


@pytest.mark.parametrize("interface", INTERFACES)
def test_confusion_matrix(interface):
    """Every member, setting and deviation is identified as itself, up to members that a declared limit makes equal."""
    groups = equal_candidates(interface)
    assert sum(len(group) for group in groups) == len(candidates(interface))
    for group in groups:
        # a deviation of one function may be another function as published; two published ones need a declared limit
        published = [c for c in group if c.deviation is None]
        for a in published[1:]:
            assert any(_declared(a, b) for b in published if a is not b), [c.text for c in group]
    for group in groups:
        member = group[0]
        found = identify(_callable(member), interface)
        exact = {m.candidate.text for m in found.exact}
        assert exact == {c.text for c in group}, member.text


def _callable(candidate):
    """The candidate as someone else's function: value and gradient."""
    names = list(candidate.record.inputs)
    scope = {"parts": candidate.parts, "record": candidate.record}
    keywords = ", ".join(names)
    source = f"def f({keywords}):\n    return result(dict({', '.join(f'{n}={n}' for n in names)}))\n"

    def result(inputs):
        if not isinstance(candidate.record, catalog.Objective):
            return checks.run(*candidate.runnable(inputs))
        parts = candidate.parts(inputs)
        gradients = [parts[f"gradient by {n}"] for n in candidate.record.wrt_names]
        return parts["value"], gradients[0] if len(gradients) == 1 else tuple(gradients)

    scope["result"] = result
    exec(source, scope)
    return scope["f"]


def _declared(a, b):
    """A declared limit between the two, for all inputs; or one function under settings that come to the same."""
    same = a.record is b.record and _hyper(a.record, a.hyper) == _hyper(b.record, b.hyper)
    return same or _becomes(a, b) or _becomes(b, a)


def _becomes(a, b):
    return any(
        catalog.find(limit.to) is b.record
        and not limit.place
        and limit.hyper.items() <= _hyper(a.record, a.hyper).items()
        and _hyper(b.record, limit.to_hyper) == _hyper(b.record, b.hyper)
        for limit in a.record.limits
    )


def _hyper(record, hyper):
    return {**record.hyper_parameters, **hyper}


def test_command(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef f(lp, lo, a):\n    return -np.mean(np.exp(lp - lo) * a)\n")
    mapping = [x for pair in ("log_prob=lp", "old_log_prob=lo", "advantage=a") for x in ("--map", pair)]
    out = tmp_path / "found.json"
    status = cli.main(["identify", f"{path}:f", "--interface", "surrogate", *mapping, "--json", str(out)])
    assert status == 0 and "ppo.unclipped_surrogate" in capsys.readouterr().out
    assert json.loads(out.read_text())["matches"][0]["name"] == "ppo.unclipped_surrogate"
    assert cli.main(["identify", f"{path}:f", "--interface", "nothing"]) == 2
    assert "there are" in capsys.readouterr().err
    assert cli.main(["identify", f"{path}:f", "--interface", "surrogate"]) == 2
