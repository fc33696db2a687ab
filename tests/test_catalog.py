"""Records refuse what does not make sense, and the catalogue finds its functions."""

import dataclasses

import numpy as np
import pytest

from trref import catalog, checks
from trref.catalog import Input, Method, Objective


def _f(x, *, a=1.0):
    return x.sum(), np.ones_like(x)


def test_record_needs_example_and_default():
    with pytest.raises(ValueError, match="give an interface, or example"):
        Objective(f=_f, wrt="x", inputs={"x": Input("N")})
    with pytest.raises(ValueError, match="settings need 'default'"):
        Objective(f=_f, wrt="x", inputs={"x": Input("N")}, example=len, settings={})
    with pytest.raises(ValueError, match="names no keyword of the function"):
        Objective(f=_f, wrt="x", inputs={"x": Input("N")}, example=len, settings={"default": {}, "s": {"b": 1}})


def test_sizes_and_seeds():
    """Contracts take those of the record: at least two sizes, for some compare them."""
    record = Objective(
        f=_f,
        wrt="x",
        inputs={"x": Input("N")},
        example=lambda rng, size: {"x": np.ones(size)},
        sizes=(3, 5),
        seeds=(7,),
    )
    assert [len(case.inputs["x"]) for case in checks.cases(record)] == [3, 5]
    assert [case.label for case in checks.cases(record)] == ["default, size 3, seed 7", "default, size 5, seed 7"]
    assert [len(case.inputs["x"]) for case in checks.cases(record, sizes=(2,), seeds=(0, 1))] == [2, 2]
    for wrong in ({"sizes": (4,)}, {"sizes": (8, 4)}, {"seeds": ()}):
        with pytest.raises(ValueError, match="two or more sizes"):
            dataclasses.replace(record, **wrong)


def test_input_kinds():
    with pytest.raises(ValueError, match="no kind 'log-prob'"):
        Input("N", "log-prob")
    with pytest.raises(ValueError, match="not a dimension"):
        Input("N-M")


def test_provenance_levels():
    record = catalog.find("ppo.clipped_surrogate")
    with pytest.raises(ValueError, match="provenance"):
        Method("k", "sure", (record,))
    with pytest.raises(ValueError, match="own module"):
        Method("k", "confirmed", (record, catalog.find("gae.gae")))


def test_find():
    assert catalog.find("gae").name == "gae.gae"
    assert catalog.find("krylov.cg") is catalog.find("cg.cg") is catalog.find("krylov.cg.cg")
    with pytest.raises(ValueError, match="did you mean ppo"):
        catalog.find("ppo.cliped_surrogate")
    with pytest.raises(ValueError, match="no catalogued function"):
        catalog.find("nothing.like_this")


def test_methods_know_where_they_are():
    for method in catalog.methods():
        assert catalog.method(method.family, method.slug) is method
        assert method.family in catalog.FAMILIES
        assert all(r.method_name == method.slug for r in method.functions)


def test_hyper_parameters():
    record = catalog.find("sam.perturbed_gradient")
    assert record.hyper_parameters == {"rho": 0.05, "p": 2.0}
    assert catalog.find("cg.cg").hyper_parameters == {"rtol": 1e-8, "max_iter": None}
