"""The example of the cascaded tanks, on records of two simulated tanks: its data file is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import rnngraph as rg
from examples.cascaded_tanks.__main__ import VARIABLE, left_out, main
from examples.cascaded_tanks.networks import KINDS, two_tanks
from examples.cascaded_tanks.record import BLOCKS, COLUMNS, TOP, Record, error, read
from examples.cascaded_tanks.report import plot, show_left_out
from examples.cascaded_tanks.simulation import levels, simulated
from examples.cascaded_tanks.train import Trainer


def test_two_simulated_tanks_are_learned_in_few_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = main(["--simulated", "--quick"])
    assert [result.name for result in results] == [kind.name for kind in KINDS]
    printed = capsys.readouterr().out
    assert "trained in closed" in printed and "published" not in printed
    record = simulated(192)
    for result in results:
        (trained,) = result.trained
        assert trained.refined < trained.closed
        assert result.runs.shape == (1, 192 - trained.given)
    spread = record.test["y"].std()
    assert results[0].errors(record)[0] < 0.3 * spread
    plot(record, results, False, tmp_path / "tanks.png")
    assert (tmp_path / "tanks.png").stat().st_size > 10_000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_free_run_sees_no_measured_level_after_the_first_ones(kind: object) -> None:
    record = simulated(64)
    trainer = Trainer(kind, record)  # type: ignore[arg-type]
    trained = trainer.train(0, steps=(1, 1))
    run = trainer.free_run(trained, record.test)
    changed = {"u": record.test["u"], "y": record.test["y"].copy()}
    changed["y"][trained.given :] = 3.0
    np.testing.assert_array_equal(trainer.free_run(trained, changed), run)
    changed["y"][: trained.given] = 3.0
    assert (trainer.free_run(trained, changed) != run).any()


def test_the_loop_is_closed_with_the_weights_of_the_open_one() -> None:
    """A closed network fed with its own outputs as measured ones is the open one."""
    record = simulated(64)
    trainer = Trainer(KINDS[0], record)
    params = trainer.closed_kernel.init(3)
    prepared = record.prepared(trainer.closed)
    own, _ = trainer.closed_kernel.forward(params, prepared.inputs, prepared.state)
    before = np.concatenate([prepared.state["y"], own["y"]])
    measured = {**prepared.inputs, "y_measured": before[1:]}
    state = {"u": prepared.state["u"], "y_measured": before[:1]}
    opened, _ = trainer.open_kernel.forward(dict(params), measured, state)
    np.testing.assert_allclose(opened["y"], own["y"], atol=1e-13)


def test_samples_left_out_teach_nothing() -> None:
    """Their levels in reverse order, which keeps mean and deviation: the same weights, another error on them."""
    record = simulated(96)
    np.testing.assert_array_equal(np.sum([record.block(number) for number in range(BLOCKS)], axis=0), 1.0)
    last = record.block(BLOCKS - 1)
    levels_reversed = record.estimation["y"].copy()
    levels_reversed[-12:] = levels_reversed[:-13:-1]
    other = Record({"u": record.estimation["u"], "y": levels_reversed}, record.test)
    first, second = (Trainer(KINDS[1], each).train(0, last, (1, 2)) for each in (record, other))
    np.testing.assert_allclose(first.params.vector, second.params.vector, rtol=1e-7, atol=1e-9)
    assert len(first.left_out) == 2
    assert abs(first.left_out[-1] - second.left_out[-1]) > 1e-3
    everything = Trainer(KINDS[1], record).train(0, None, (1, 2))
    assert np.abs(everything.params.vector - first.params.vector).max() > 1e-4


def test_every_block_is_left_out_once() -> None:
    """Their errors together: the root of the mean of their squares."""
    record, kind = simulated(96), KINDS[1]
    (curve,) = left_out(kind, record, 1, (1, 2))
    parts = [Trainer(kind, record).train(0, record.block(number), (1, 2)).left_out for number in (0, 7)]
    assert len(curve) == 2 and all(len(part) == 2 for part in parts)
    assert curve[0] ** 2 > (parts[0][0] ** 2 + parts[1][0] ** 2) / BLOCKS
    console = Console(record=True, width=100)
    show_left_out({kind.name: [curve]}, console)
    assert f"{curve[1]:.3f}" in console.export_text()


def test_levels_stop_at_the_top_and_rest_where_in_and_outflow_agree() -> None:
    assert levels(np.full(400, 6.5))[-1] == TOP
    # k4 u = k1 sqrt(h), k2 sqrt(h) = k3 sqrt(y): y = (k2 k4 u / (k1 k3))^2
    assert levels(np.full(4000, 2.0))[-1] == pytest.approx((0.045 * 2.0 / 0.045) ** 2, rel=1e-3)


def test_the_level_is_held_below_the_top() -> None:
    kernel = rg.compile(two_tanks(0.5), loss="mse", dtype="float64")
    params = kernel.init(0)
    params["b_y"][...] = 5.0
    outputs, _ = kernel.forward(params, {"u": np.zeros((9, 1, 1))})
    assert outputs["y"].max() == 0.5


def test_data_are_read_from_the_benchmarks_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = simulated(20)
    path = tmp_path / "dataBenchmark.csv"
    columns = [record.estimation["u"], record.test["u"], record.estimation["y"], record.test["y"]]
    lines = [",".join(f'"{name}"' for name in (*COLUMNS, "Ts")) + ","]
    lines += [
        ",".join(map(repr, map(float, row))) + (",4," if t == 0 else ",,")
        for t, row in enumerate(zip(*columns, strict=True))
    ]
    path.write_text("\n".join(lines), "utf-8")
    found = read(path)
    np.testing.assert_array_equal(read(tmp_path).test["y"], found.test["y"])
    np.testing.assert_array_equal(found.estimation["y"], record.estimation["y"])
    np.testing.assert_array_equal(found.test["u"], record.test["u"])
    assert error(found.test["y"][5:] + 0.5, found.test["y"]) == pytest.approx(0.5)
    monkeypatch.delenv(VARIABLE, raising=False)
    for arguments in ([], [str(tmp_path / "missing.csv")]):
        with pytest.raises(rg.DataError, match=r"nonlinearbenchmark\.org"):
            main(arguments)
    path.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(rg.DataError, match="the columns uEst, uVal, yEst, yVal"):
        read(path)
