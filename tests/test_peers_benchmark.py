"""benchmarks/peers: its competitors compute the same, wrong numbers and failures are noticed, the page says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_competitors import absent, allocate, double, dying, failing, wrong

from benchmarks.harness import UnequalError, require_equal
from benchmarks.peers import (
    command,
    first_result,
    jax_scan,
    onnx_session,
    ours,
    peak,
    table,
    torch_layers,
    torch_loops,
)
from benchmarks.peers.problems import FORWARD, GRADIENT, Case, make, shapes
from benchmarks.peers.result import ONE_THREAD, Result, measured
from benchmarks.peers.targets import TARGETS, reached, verdicts
from benchmarks.peers.works import NUMPY, WORKS, C, Work
from benchmarks.processes import Competitor, CompetitorError, Processes, Task, UnavailableError, in_fresh_process

Setup = Callable[[Case], dict[str, Task]]
CASES = {
    name: Case(name, 11, 3, 1 if name == "narx" else 2, 4)
    for name in ("lstm", "gru", "elman", "stack", "delayed", "narx")
}


def results(tasks: dict[str, Task]) -> dict[str, list[Any]]:
    return {name: [np.array(part, np.float64) for part in task.read(task.run())] for name, task in tasks.items()}


def compare(case: Case, setup: Setup, name: str) -> None:
    expected, found = results(ours.setup(case, "numpy")), results(setup(case))
    assert found and set(found) <= set(expected) == set(case.tasks)
    for task, values in found.items():
        require_equal(expected[task], values, 1e-5, f"{case.network}, {task}: {name}")


def in_chunks(case: Case) -> dict[str, Task]:
    """What torch.compile is given, not compiled: this would take half a minute."""
    torch = torch_layers.import_torch()
    return {GRADIENT: torch_loops.loop_task(torch, case, torch_loops.CHUNK_OF[case.network](torch), 4)}


@pytest.mark.usefixtures("c_compiler")
@pytest.mark.parametrize("network", CASES)
def test_both_backends_agree(network: str) -> None:
    compare(CASES[network], lambda case: ours.setup(case, "c"), C)


def test_the_hand_written_lstm_agrees() -> None:
    compare(CASES["lstm"], ours.handwritten, "hand-written")


@pytest.mark.peers
@pytest.mark.parametrize("network", CASES)
def test_peers_agree(network: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    pytest.importorskip("onnxruntime")
    case = CASES[network]
    compare(case, lambda case: jax_scan.setup(case, (2 if network == "elman" else 1,)), "JAX")
    if network in torch_layers.LAYERS:
        compare(case, torch_layers.setup, "torch layer")
        compare(case, onnx_session.setup, "ONNX Runtime")
    else:
        compare(case, torch_loops.eager, "torch eager")
    if network == "delayed":
        compare(case, torch_loops.as_written, "torch as written")
    if network in torch_loops.CHUNK_OF:
        compare(case, in_chunks, "torch in chunks")


@pytest.mark.peers
@pytest.mark.parametrize("parameter", shapes(CASES["lstm"]))
def test_a_wrong_parameter_of_a_peer_is_noticed(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def planted(case: Case) -> Any:
        problem = make(case)
        problem.parameters[parameter].flat[0] += 0.02
        return problem

    monkeypatch.setattr(torch_layers, "make", planted)
    with pytest.raises(UnequalError, match="lstm, forward: torch"):
        compare(CASES["lstm"], torch_layers.setup, "torch")


def work(*setups: Setup) -> Work:
    competitors = [Competitor(NUMPY, double), *(Competitor(setup.__name__, setup) for setup in setups)]
    return Work("lstm", "LSTM", (CASES["lstm"],), tuple(competitors))


def test_what_fails_or_is_absent_is_told_and_the_rest_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    failures: list[str] = []
    with Processes(1) as processes:
        found = command.run(work(failing, absent, dying), processes, True, 1, failures)
    assert [(r.competitor, r.value is None) for r in found] == [("absent", True), (NUMPY, False)]
    assert "ZeroDivisionError: a mistake" in failures[0]
    assert "the process of dying died" in failures[1]
    page = table.markdown(found, {"processor": "P"}, failures)
    assert "lstm (11, 3, 2, 4): absent left out: it is not installed" in page
    assert all(failure in page for failure in failures)
    assert "it is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("mistaken", [failing, dying])
def test_who_shares_a_process_with_one_that_fails_is_timed(mistaken: Setup) -> None:
    competitors = [Competitor("mistaken", mistaken, "torch"), Competitor("right", double, "torch")]
    failures: list[str] = []
    with Processes(1) as processes:
        found = command.run(Work("lstm", "LSTM", (CASES["lstm"],), tuple(competitors)), processes, True, 1, failures)
    assert [(r.competitor, r.value is None) for r in found] == [("right", False)]
    assert len(failures) == 1 and "mistaken failed" in failures[0]


def test_what_fails_in_a_process_of_its_own_is_told() -> None:
    def absent() -> float:
        raise UnavailableError("it is not installed")

    failures: list[str] = []
    result = measured("memory", CASES["lstm"], "peer", absent, failures)
    assert (result.value, result.note, failures) == (None, "it is not installed", [])
    result = measured("memory", CASES["lstm"], "peer", lambda: 1 / 0, failures)
    assert (result.value, result.threads) == (None, ONE_THREAD)
    assert failures == ["memory (11, 3, 2, 4): peer failed: ZeroDivisionError: division by zero"]
    page = table.markdown([result], {"processor": "P"}, failures)
    assert page.count("division by zero") == 1


def test_first_results_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_order(threads: int, function: Any, prepare: Any, case: Case, cache: str) -> Any:
        return float(cache), [np.array([1.0 if prepare is first_result.ours_numpy else 1.01])]

    monkeypatch.setattr(first_result, "in_fresh_process", in_order)
    expected: list[Any] = []
    arguments = CASES["lstm"], ["3", "1", "2"], expected
    assert first_result.median(first_result.ours_numpy, *arguments, "ours") == 2
    with pytest.raises(UnequalError, match="first result"):
        first_result.median(first_result.jax_jit, *arguments, "JAX")


@pytest.mark.parametrize(("error", "status"), [(UnequalError("a and b"), 2), (KeyboardInterrupt(), 130)])
def test_unequal_numbers_and_an_interrupt_write_nothing(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    def stop(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(command, "run", stop)
    assert command.main(["--work", "lstm", "--threads", "1", "--output", str(tmp_path / "out")]) == status
    assert "nothing is written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unequal_numbers_stop_the_command() -> None:
    with Processes(1) as processes, pytest.raises(UnequalError, match=r"lstm|\(11, 3, 2, 4\), forward"):
        command.run(work(wrong), processes, True, 1, [])


def test_a_process_that_died_is_started_again() -> None:
    with Processes(1) as processes:
        competitor = Competitor("dying", dying)
        for _ in range(2):
            assert list(processes.ask("dying", "setup", competitor, CASES["lstm"])) == [FORWARD]
            with pytest.raises(CompetitorError, match="died"):
                processes.ask("dying", "check", "dying", FORWARD)


def test_peak_memory_is_that_of_the_step() -> None:
    try:
        found = in_fresh_process(1, peak.peak_megabytes, Competitor("allocate", allocate), Case("lstm", 60, 1, 1, 1))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert 55 < found < 75


def figures(c: float) -> list[Result]:
    values = {NUMPY: 4.0, C: c, "torch nn.LSTM": 6.0, "JAX scan": 5.0, "ONNX Runtime": 7.0}
    return [Result("lstm", "(784, 64, 1, 128)", ONE_THREAD, FORWARD, name, value) for name, value in values.items()]


def test_the_best_of_several_peers_counts() -> None:
    (verdict,) = verdicts(figures(2.0), ONE_THREAD)
    assert (verdict.peer, verdict.value) == ("JAX scan", 5.0)
    assert verdict.ours == {NUMPY: (4.0, 1.25, None), C: (2.0, 2.5, 1.2)}


def test_the_page_says_what_is_reached() -> None:
    for c, met in ((2.0, "yes"), (5.0, "**no**")):
        page = table.markdown(figures(c), {"processor": "P"})
        row = next(line for line in page.splitlines() if line.startswith("LSTM, forward | (784, 64, 1, 128)"))
        assert row.split(" | ")[2:4] == ["JAX scan", "5"]
        assert row.split(" | ")[-2:] == ["1.2", met]
        stored = json.loads(table.as_json(figures(c), {"processor": "P"}))
        assert stored["targets"][0]["ours"][C]["reached"] is (met == "yes")
    assert reached(0.996, 1.0) and not reached(0.994, 1.0)


def test_a_target_without_figures_is_not_forgotten() -> None:
    # Of this size targets want one ratio of the forward pass, which is there, and four of the gradient, which are not.
    page = table.markdown(figures(2.0), {"processor": "P"})
    assert "1 of 5 reached; 4 not measured." in page
    alone = [result for result in figures(2.0) if result.competitor != C]
    assert "0 of 5 reached; 5 not measured." in table.markdown(alone, {"processor": "P"})


def test_every_target_names_a_work_a_size_and_competitors_that_are_measured() -> None:
    places = {
        (each.name, command.label(case)): {competitor.name for competitor in each.competitors}
        for each in WORKS
        for case in each.cases
    }
    for target in TARGETS:
        if target.work in command.EXTRA_NAMES:
            continue
        assert set(target.peers) <= places[target.work, target.case], target


def test_only_whole_runs_write_the_results() -> None:
    assert command.parse([]).output == command.RESULTS
    for arguments in (["--quick"], ["--work", "lstm"], ["--threads", "1"]):
        assert command.parse(arguments).output is None
    assert command.parse(["--quick", "--output", "out"]).output == Path("out")
    with pytest.raises(SystemExit):
        command.parse(["--work", "lstn"])
