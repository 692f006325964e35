"""Parameters and gradients as mappings, and what the emitted module refuses by itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import rnngraph as rg

X = np.linspace(-1.0, 1.0, 3 * 2 * 3).reshape(3, 2, 3)
Y = np.zeros((3, 2, 2))


def elman(**options: Any) -> rg.Kernel:
    return rg.compile(rg.zoo.elman(3, 4, 2, recurrence="dense"), dtype="float64", **options)


def test_parameters_stay_views_of_the_vector() -> None:
    params = elman().init()
    assert isinstance(params, Mapping)
    params["b_y"] = [3.0, 4.0]
    params.update({"V": np.ones((4, 2))})
    assert all(np.shares_memory(array, params.vector) for array in params.values())
    assert params.vector[[-2, -1]].tolist() == [3.0, 4.0]
    assert not hasattr(params, "pop")
    with pytest.raises(AttributeError):
        params.vector = np.zeros(1)
    with pytest.raises(KeyError, match="'U' is not a parameter"):
        params["U"] = 1.0
    with pytest.raises(ValueError, match=r"parameter 'b_y': found shape \(7,\); expected \(2,\)"):
        params["b_y"] = np.ones(7)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda params: params.copy()])
def test_copies_of_parameters_are_their_own(duplicate: Any) -> None:
    kernel = elman()
    params = kernel.init()
    kept = duplicate(params)
    params.vector[:] = 0.0
    assert kept.vector.any()
    assert all(np.shares_memory(array, kept.vector) for array in kept.values())
    kernel.forward(kept, {"x": X})


@pytest.mark.parametrize("wrt", ["inputs", ("state",), ("inputs", "state")])
def test_no_gradient_by_parameters_when_none_was_asked_for(wrt: Any) -> None:
    kernel = elman(wrt=wrt)
    params = kernel.init()
    _, grads = kernel.loss_and_gradient(params, {"x": X}, {"y": Y})
    assert grads.vector is None
    assert dict(grads) == {}
    with pytest.raises(rg.OptionError, match="wrt"):
        rg.fit(kernel, params, ({"x": X}, {"y": Y}), epochs=1, progress=False)


REFUSED = [
    (dict(targets={"y": np.zeros((1, 1, 2))}), r"target 'y': found shape \(1, 1, 2\); expected \(3, 2, 2\)"),
    (dict(targets={}), "'y' is missing"),
    (dict(state={"A": np.zeros((1, 2, 4))}), "'A' keeps none"),
    (dict(state={"a": np.zeros(4)}), r"state of 'a': found shape \(4,\); expected \(1, 2, 4\)"),
    (dict(weights=np.zeros((3, 2))), "with a sum above 0"),
    (dict(weights=np.ones(3)), r"weights: found shape \(3,\); expected \(3, 2\)"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_the_emitted_module_refuses_wrong_data(change: dict[str, Any], message: str) -> None:
    module = elman().module
    arguments: dict[str, Any] = {"targets": {"y": Y}, **change}
    for function in (module.loss, module.loss_and_gradient):
        with pytest.raises(ValueError, match=message):
            function(module.init(), {"x": X}, **arguments)


@pytest.mark.parametrize("classes", [-1, 2])
def test_the_emitted_module_refuses_wrong_classes(classes: int) -> None:
    module = elman(loss="cross_entropy").module
    targets = np.zeros((3, 2), int)
    targets[1, 1] = classes
    with pytest.raises(ValueError, match="expected 0 to 1"):
        module.loss(module.init(), {"x": X}, {"y": targets})


def test_workspaces_of_many_lengths_are_bounded_and_can_be_released() -> None:
    kernel = elman()
    params = kernel.init()
    module = kernel.module
    module.HELD_BYTES = 200_000
    for T in range(1, 60):
        kernel.forward(params, {"x": np.zeros((T, 2, 3))})
    held = module._local.held
    assert 1 <= len(held) < 59
    assert sum(workspace.nbytes for workspace in held.values()) <= 200_000
    kernel.release_workspaces()
    assert not hasattr(module._local, "held")
    kernel.forward(params, {"x": X})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(method="tbptt", k1=3), rg.OptionError, "k2.*None"),
        (dict(method="tbptt", k1=0, k2=4), rg.OptionError, "k1.*>= 1"),
        (dict(method="tbptt", k1=5, k2=4), rg.OptionError, "the nearest that works: k2=5"),
        (dict(method="tbptt", k1=2, k2=4, wrt="inputs"), rg.UnsupportedError, "use method='bptt'"),
        (dict(method="snap", order=0), rg.OptionError, "order.*>= 1"),
        (dict(k1=3), rg.OptionError, "belongs to method='tbptt'"),
        (dict(wrt=None), rg.OptionError, "a subset of"),
        (dict(wrt=()), rg.OptionError, "one at least"),
        (dict(loss=np.zeros(3)), rg.OptionError, "a ndarray"),
        (dict(dtype="no such type"), rg.OptionError, "float32"),
    ],
)
def test_options_of_compile(options: dict[str, Any], error: type[rg.RNNGraphError], message: str) -> None:
    with pytest.raises(error, match=message):
        rg.compile(rg.zoo.elman(3, 4, 2), **options)


@pytest.mark.parametrize("dtype", [float, "f8", np.float64, np.dtype("<f8"), "float64"])
def test_dtype_by_any_of_its_names(dtype: Any) -> None:
    assert rg.compile(rg.zoo.elman(1, 1, 1), dtype=dtype).program.dtype == "float64"
