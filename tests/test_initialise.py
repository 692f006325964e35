"""Initialisation rules: their distributions, their choice, their independence of one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnngraph.errors import OptionError
from rnngraph.initialise import INITIALISERS, ROLES, ParameterSpec, default_rule, initialise

W = ParameterSpec("W", (30, 50), "input_weight")
R = ParameterSpec("R", (50, 50), "recurrent_weight")
D = ParameterSpec("D", (50,), "diagonal")
B = ParameterSpec("b", (50,), "bias")
F = ParameterSpec("b_f", (50,), "forget_bias")
A = ParameterSpec("a_0", (50,), "initial")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_default_rules_follow_the_role() -> None:
    assert [default_rule(spec) for spec in (W, R, D, B, F, A)] == [
        "glorot",
        "orthogonal",
        "small",
        "zeros",
        "ones",
        "zeros",
    ]
    assert default_rule(ParameterSpec("R", (3, 4), "recurrent_weight")) == "glorot"


def test_glorot_fills_its_interval_and_no_more() -> None:
    limit = np.sqrt(6 / 80)
    values = INITIALISERS["glorot"](W, rng())
    assert values.shape == (30, 50) and values.dtype == np.float64
    assert 0.99 * limit < np.abs(values).max() <= limit
    assert abs(values.var() / (2 / 80) - 1) < 0.1


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 1)])
def test_orthogonal_is_orthonormal_on_its_shorter_side(shape: tuple[int, int]) -> None:
    q = INITIALISERS["orthogonal"](ParameterSpec("Q", shape, "recurrent_weight"), rng())
    assert q.shape == shape
    product = q @ q.T if shape[0] <= shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-12)


def test_orthogonal_signs_are_not_those_of_the_qr_routine() -> None:
    one = ParameterSpec("Q", (1, 1), "recurrent_weight")
    signs = {float(INITIALISERS["orthogonal"](one, np.random.default_rng(seed))[0, 0]) for seed in range(20)}
    assert signs == {-1.0, 1.0}


def test_constant_rules_and_scales() -> None:
    assert (INITIALISERS["zeros"](B, rng()) == 0).all()
    assert (INITIALISERS["ones"](F, rng()) == 1).all()
    assert (INITIALISERS["identity"](R, rng()) == np.eye(50)).all()
    assert np.abs(INITIALISERS["uniform"](W, rng())).max() <= 30**-0.5
    assert abs(INITIALISERS["he"](R, rng()).var() / (2 / 50) - 1) < 0.1
    assert abs(INITIALISERS["small"](R, rng()).std() / 0.1 - 1) < 0.1


@pytest.mark.parametrize("rule", sorted(INITIALISERS))
@pytest.mark.parametrize("spec", [W, R, ParameterSpec("one", (1, 1), "input_weight")])
def test_every_rule_keeps_the_shape_and_is_finite(rule: str, spec: ParameterSpec) -> None:
    values = INITIALISERS[rule](spec, rng())
    assert values.shape == spec.shape and values.dtype == np.float64 and np.isfinite(values).all()


def test_same_seed_same_values_and_other_seed_other_values() -> None:
    first, again, other = initialise([W, R], 3), initialise([W, R], 3), initialise([W, R], 4)
    for name in ("W", "R"):
        assert (first[name] == again[name]).all()
        assert (first[name] != other[name]).any()


def test_a_parameter_does_not_depend_on_the_others() -> None:
    twin = ParameterSpec("V", W.shape, W.role)
    alone, among = initialise([W], 0), initialise([R, twin, W], 0)
    assert (alone["W"] == among["W"]).all()
    assert (among["V"] != among["W"]).any()


def test_rules_by_name_go_before_rules_by_role() -> None:
    values = initialise([W, R, B, F], 0, {"bias": "ones", "b_f": "zeros", "forget_bias": "small", "R": "identity"})
    assert (values["b"] == 1).all() and (values["b_f"] == 0).all() and (values["R"] == np.eye(50)).all()


@pytest.mark.parametrize(
    ("rules", "seed", "text"),
    [
        ({"W": "glorott"}, 0, "did you mean 'glorot'"),
        ({"bais": "zeros"}, 0, "did you mean 'bias'"),
        ({"D": "orthogonal"}, 0, r"parameter 'D'.*\(50,\).*matrix"),
        (["a"], 0, "found \\['a'\\] of type list; expected a mapping"),
        ("zeros", 0, "of type str; expected a mapping"),
        ({"W": ["glorot"]}, 0, r"rule of 'W': found \['glorot'\]; expected one of glorot"),
        ({"W": None}, 0, "rule of 'W': found None"),
        (None, -1, "integer >= 0"),
        (None, True, "integer >= 0"),
    ],
)
def test_errors_name_what_is_wrong(rules: Any, seed: int, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        initialise([W, D], seed, rules)


def test_unknown_role_is_refused() -> None:
    with pytest.raises(OptionError, match="did you mean 'bias'"):
        ParameterSpec("b", (2,), "biass")
    assert len(ROLES) == 7
