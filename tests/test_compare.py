"""Comparing learning rules: exact ones equal BPTT, approximate ones are told apart, refused ones say why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import zoo

ELMAN = zoo.elman(2, 8, 1, recurrence="dense")
RULES = ["bptt", "rtrl", "focused", "snap", "rflo", "eprop"]


def recall(steps: int = 8, length: int = 24, batch: int = 5) -> Any:
    """The target is the input of ``steps`` steps ago."""
    x = np.random.default_rng(0).standard_normal((length, batch, 2))
    y = np.zeros((length, batch, 1))
    y[steps:] = x[:-steps, :, :1]
    return {"x": x}, {"y": y}


def test_exact_rules_agree_and_approximate_ones_do_not() -> None:
    found = rg.compare(ELMAN, recall(), RULES, steps=60, every=20)
    assert found.updates == (0, 20, 40, 60)
    assert found.loss[-1] < found.loss[0]
    for name in ("bptt", "rtrl"):
        row = found[name]
        assert row.exact
        np.testing.assert_allclose(row.cosine, 1.0, atol=1e-9)
        np.testing.assert_allclose(row.norm_ratio, 1.0, atol=1e-9)
    for name in ("snap(order=1)", "rflo", "eprop"):
        row = found[name]
        assert not row.exact
        assert max(row.cosine) < 0.999
        assert len(row.cosine) == 4
    row = found["focused"]
    assert "'focused' on a network with the loop" in row.refused
    assert row.cosine == ()
    assert math.isnan(row.seconds)


def test_focused_is_exact_where_it_is_allowed() -> None:
    found = rg.compare(zoo.elman(2, 8, 1), recall(), ["focused", "snap"])
    assert found.updates == (0,)
    for row in found.rows:
        np.testing.assert_allclose((*row.cosine, *row.norm_ratio), 1.0, atol=1e-9)


def test_costs_and_times() -> None:
    found = rg.compare(ELMAN, recall(), ["rtrl"])["rtrl"]
    expected = rg.gradient(ELMAN, method="rtrl").cost().numbers(24, 5, "float64")
    assert (found.flops_per_step, found.memory) == (expected.flops_per_step, expected.bytes)
    assert 0.0 < found.seconds < 60.0


def test_one_seed_gives_one_result() -> None:
    one, two = (rg.compare(ELMAN, recall(), ["rflo"], steps=6, every=2, batch_size=2, seed=3) for _ in range(2))
    assert one.rows[0].cosine == two.rows[0].cosine
    assert one.batch == 2
    assert one.rows[0].cosine != rg.compare(ELMAN, recall(), ["rflo"], steps=6, every=2, seed=4).rows[0].cosine


def test_masked_sequences_of_different_lengths() -> None:
    weights = np.ones((24, 5))
    weights[:4] = 0.0
    inputs, targets = recall(length=24)
    data = [(inputs, targets, weights), recall(length=12)]
    np.testing.assert_allclose(rg.compare(ELMAN, data, ["rtrl"], steps=3, every=1)["rtrl"].cosine, 1.0, atol=1e-9)


def test_no_gradient_has_no_angle() -> None:
    inputs, targets = recall()
    row = rg.compare(ELMAN, (inputs, targets), ["rtrl"], loss="step(y - 100)").rows[0]
    assert math.isnan(row.cosine[0])
    assert math.isnan(row.norm_ratio[0])


def test_table() -> None:
    text = str(rg.compare(ELMAN, recall(), RULES, steps=10, every=5))
    lines = text.splitlines()
    assert lines[0] == "Gradients beside that of bptt (T = 24, batch = 5)"
    header = "rule gradient cosine after 10 norm ratio after 10 FLOP per step bytes kept time of a call"
    assert " ".join(lines[1].split()) == header
    assert lines[3].split()[:6] == ["rtrl", "exact", "1", "1", "1", "1"]
    assert any(line.startswith("  rflo") and " approximate " in line for line in lines)
    assert lines[-1].startswith("  focused is refused: method: found 'focused'")


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = rg.compare(ELMAN, recall(), RULES, steps=6, every=2)
    figure = found.plot(tmp_path / "cosine.png")
    assert (tmp_path / "cosine.png").stat().st_size > 1000
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["bptt", "rtrl", "snap(order=1)", "rflo", "eprop"]
    assert list(lines["rflo"].get_xdata()) == [0, 2, 4, 6]
    assert lines["rtrl"].get_linestyle() == "-"
    assert lines["rflo"].get_linestyle() != "-"
    with pytest.raises(rg.OptionError, match="ending"):
        found.plot(tmp_path / "cosine.txt")
    with pytest.raises(rg.OptionError, match="steps=100"):
        rg.compare(ELMAN, recall(), ["rtrl"]).plot()


@pytest.mark.parametrize(
    ("methods", "match"),
    [
        ("rtrl", r"write methods=\['rtrl', 'rflo'\]"),
        ([], "name one rule"),
        (["rtlr"], "check the spelling"),
        ([("rtrl", {"k9": 1})], "the option 'k9'"),
        ([("rtrl", {"k1": 1})], "method='tbptt'"),
        ([("rtrl", 2)], "for example"),
        ([("tbptt", {"k1": 2})], "k2"),
        ([3], "method"),
    ],
)
def test_bad_methods(methods: Any, match: str) -> None:
    with pytest.raises(rg.OptionError, match=match):
        rg.compare(ELMAN, recall(), methods)


@pytest.mark.parametrize("options", [{"steps": -1}, {"every": 0}, {"seed": 1.5}, {"dtype": "float16"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(rg.OptionError, match=next(iter(options))):
        rg.compare(ELMAN, recall(), ["rtrl"], **options)


def test_divergence_is_reported() -> None:
    with pytest.raises(rg.TrainingError, match="lower rate"), np.errstate(all="ignore"):
        rg.compare(zoo.feedforward([2, 1]), recall(), ["bptt"], steps=2000, every=2000, optimizer=rg.SGD(1e6))


def test_a_window_as_long_as_the_sequence_leaves_nothing_out() -> None:
    found = rg.compare(ELMAN, recall(), [("tbptt", {"k1": 24, "k2": 24}), ("tbptt", {"k1": 2, "k2": 4})])
    whole, short = found.rows
    assert not whole.exact  # by construction, that is
    np.testing.assert_allclose((*whole.cosine, *whole.norm_ratio), 1.0, atol=1e-9)
    assert short.rule == "tbptt(k1=2, k2=4)"
    assert short.cosine[0] < 0.9999
    assert short.memory * 6 == whole.memory
