"""``rg.windows``, ``rg.pad``, ``rg.buckets``, ``rg.split``: against slices, whole runs and gradients per sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import DataError, OptionError

N = 40
RNG = np.random.default_rng(21)
U, Y = RNG.normal(size=N), RNG.normal(size=N)
TDNN = rg.zoo.tdnn((1, 3, 1), [3, 0])


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_windows_continue_one_another() -> None:
    data = rg.prepare({"x": U, "y": Y}, TDNN)
    cut = rg.windows(data, 10)
    assert cut.inputs["x"].shape == (10, 3, 1) and cut.dropped == 3 and cut.weights is None
    for k in range(3):
        first = 3 + 10 * k
        close(cut.inputs["x"][:, k, 0], U[first : first + 10])
        close(cut.targets["y"][:, k, 0], Y[first : first + 10])
        close(cut.state["x"][:, k, 0], U[first - 3 : first])
    kernel = rg.compile(TDNN, dtype="float64")
    params = kernel.init()
    whole = kernel.forward(params, {"x": U[:, None, None]})[0]["y"][3:33, 0, 0]
    close(kernel.forward(params, cut.inputs, cut.state)[0]["y"][:, :, 0].T.ravel(), whole)


@pytest.mark.parametrize("delays", [[-2, -1, 0, 3], [-1, 0], [-3]])
def test_look_ahead_takes_the_samples_after(delays: list[int]) -> None:
    graph = rg.zoo.tdnn((1, 3, 1), [[0], [0]])
    graph.edges["x", "a1", 0]["delay"] = delays
    data = rg.prepare({"x": U, "y": Y}, graph)
    before, after = max(0, *delays, 0), -min(delays)
    assert data.inputs["x"].shape == (N - before - after, 1, 1)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    whole = kernel.forward(params, {"x": U[:, None, None]})[0]["y"][before : N - after]
    close(kernel.forward(params, data.inputs, data.state)[0]["y"], whole)
    cut = rg.windows(data, 8, stride=5)
    found = kernel.forward(params, cut.inputs, cut.state)[0]["y"][:, :, 0]
    for k in range(found.shape[1]):
        close(found[:, k], whole[5 * k : 5 * k + 8, 0, 0])
    with pytest.raises(DataError, match=r"sequences of .* steps for a network that looks ahead"):
        rg.prepare([{"x": U, "y": Y}, {"x": U[:-3], "y": Y[:-3]}], graph)


@pytest.mark.parametrize("delays", [[-2, -1, 0], [-2, 0, 1]])
def test_every_form_of_look_ahead_data_is_cut_alike(delays: list[int]) -> None:
    """A list, a padded batch and, with the graph, a tuple: the samples after a window are not those before it."""
    graph = rg.zoo.tdnn((1, 3, 1), [[0], [0]])
    graph.edges["x", "a1", 0]["delay"] = delays
    data = rg.prepare({"x": U, "y": Y}, graph)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    whole = kernel.forward(params, data.inputs, data.state)[0]["y"][:, 0, 0]
    short = rg.prepare({"x": U[:20], "y": Y[:20]}, graph)
    for form, options in (
        ([data], {}), ([data, short], {}), (rg.pad([data]), {}), (rg.pad([data, data]), {}),
        (data.data, {"graph": graph}), ([dict(data)], {"graph": graph}), (rg.pad([data.data]), {"graph": graph}),
    ):  # fmt: skip
        cut = rg.windows(form, 8, **options)
        found = kernel.forward(params, cut.inputs, cut.state)[0]["y"][:, :, 0]
        both = isinstance(form, rg.Prepared) and len(form.lengths) == 2
        for k in range(4):
            close(found[:, 2 * k if both else k], whole[8 * k : 8 * k + 8])
    with pytest.raises(DataError, match=r"sequences of .* steps for a network that looks ahead"):
        rg.pad([data, short])
    other = rg.prepare({"x": U, "y": Y}, rg.zoo.tdnn((1, 3, 1), [[0, 2], [0]]))
    with pytest.raises(DataError, match=r"sequences\[1\]: state: found values of \[\] after the sequence"):
        rg.pad([rg.prepare({"x": U, "y": Y}, look_ahead([-2])), other])


def look_ahead(delays: list[int], hidden: int = 0) -> Any:
    """A network of two layers, the first of which reads ahead, and the second too with ``hidden`` > 0."""
    graph = rg.zoo.tdnn((1, 3, 1), [[0], [0]])
    graph.edges["x", "a1", 0]["delay"] = delays
    graph.edges["a1", "y", 0]["delay"] = sorted({-hidden, 0, hidden})
    return graph


def test_last_steps_that_read_ahead_of_what_is_known_do_not_count() -> None:
    graph = look_ahead([-1, 0, 1], 2)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    params["b_a1"][:] = 0.5
    long, short = (rg.prepare({"x": U[:n], "y": Y[:n]}, graph) for n in (N, 30))
    assert short.warmup == short.tail == 2 and short.weights is not None
    np.testing.assert_array_equal(np.flatnonzero(short.weights[:, 0]), range(2, 26))
    found, whole = (kernel.forward(params, data.inputs, data.state)[0]["y"] for data in (short, long))
    close(found[:26], whole[:26])
    assert (np.abs(found[26:] - whole[26:28]) > 1e-6).all()
    for data in (long, [long]):
        cut = rg.windows(data, 12)
        assert cut.tail == cut.warmup == 2 and cut.weights is not None and cut.weights[2:-2].all()
        assert not cut.weights[-2:].any() and not cut.weights[:2].any()
        found = kernel.forward(params, cut.inputs, cut.state)[0]["y"]
        for k in range(found.shape[1]):
            close(found[2:-2, k], whole[8 * k + 2 : 8 * k + 10, 0])
    assert rg.prepare({"x": U, "y": Y}, graph, tail=0, warmup=0).weights is None
    assert rg.prepare({"x": U, "y": Y}, graph, fill="initial").tail == 0
    assert rg.windows(long, 12, tail=0).tail == 0


def test_which_loops_are_read_beyond_their_end_by_design() -> None:
    """A loop has a value before its first step where it runs forward, and after the last where it runs backward."""
    for run, read, ends in ((1, 2, (0, 0)), (1, -2, (0, 2)), (-1, 2, (2, 0)), (-1, -2, (0, 0))):
        graph = rg.zoo.tdnn((1, 3, 1), [[0], [0]])
        graph.edges["a1", "y", 0]["delay"] = read
        graph.add_edge("a1", "a1", delay=run)
        data = rg.prepare({"x": U, "y": Y}, graph)
        assert (data.warmup, data.tail) == ends, (run, read)


def test_a_list_keeps_the_warmup_that_prepare_found() -> None:
    graph = rg.zoo.tdnn((1, 3, 1), [3, 2])
    parts = [rg.prepare({"x": U[:n], "y": Y[:n]}, graph) for n in (N, 30)]
    for data in (parts, rg.pad(parts)):
        cut = rg.windows(data, 12)
        assert cut.warmup == 2 and cut.dropped == 3 and cut.weights is not None and not cut.weights[:2].any()


@pytest.mark.parametrize(("stride", "warmup"), [(None, 0), (4, 0), (None, 3), (12, 2), (1, 9)])
def test_windows_of_several_sequences(stride: int | None, warmup: int) -> None:
    graph = rg.zoo.narx(1, 2, 1, 2, 5)
    parts = [rg.prepare({"x": U, "y": Y}, graph), rg.prepare({"x": Y[:20], "y": U[:20]}, graph, weights=abs(Y[:20]))]
    found = rg.windows([part.data for part in parts], 10, stride, warmup, graph=graph)
    expected = []
    for x, y, weights in ((U, Y, np.ones(N)), (Y[:20], U[:20], abs(Y[:20]))):
        start = 5
        while start + 10 <= len(x):
            counted = weights[start : start + 10].copy()
            counted[:warmup] = 0.0
            expected.append(
                (x[start : start + 10], y[start : start + 10], counted, x[start - 2 : start], y[start - 5 : start])
            )
            start += stride or 10 - warmup
    assert found.weights is not None and found.inputs["x"].shape == (10, len(expected), 1) and found.warmup == warmup
    arrays = found.inputs["x"], found.targets["y"], found.weights, found.state["x"], found.state["y"]
    for k, columns in enumerate(expected):
        for array, column in zip(arrays, columns, strict=True):
            close(array[:, k].ravel(), column)


def test_windows_leave_padding_out() -> None:
    data = rg.prepare([{"x": U, "y": Y}, {"x": U[:15], "y": Y[:15]}], TDNN)
    cut = rg.windows(data, 8)  # 37 steps: four windows; 12 steps: one window and a half
    assert cut.inputs["x"].shape[1] == 6
    assert cut.weights is not None and cut.weights.sum() == 4 * 8 + 12
    assert sorted(cut.lengths) == [4, 8, 8, 8, 8, 8]


def test_windows_take_over_the_warmup_of_deep_delays() -> None:
    """In a window other than the first, too, what hidden layers stand in with does not count."""
    graph = rg.zoo.tdnn((1, 3, 1), [3, 2])
    data = rg.prepare({"x": U, "y": Y}, graph)
    cut = rg.windows(data, 12)
    assert cut.warmup == data.warmup == 2 and cut.weights is not None
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    whole = kernel.forward(params, {"x": U[:, None, None]})[0]["y"][:, 0, 0]
    found = kernel.forward(params, cut.inputs, cut.state)[0]["y"][:, :, 0]
    assert not cut.weights[:2].any() and cut.weights[2:].all()
    for k in range(cut.inputs["x"].shape[1]):
        first = 3 + 10 * k
        close(found[2:, k], whole[first + 2 : first + 12])


def test_windows_of_classes_and_without_state() -> None:
    labels = RNG.integers(0, 3, size=(N, 2))
    x = RNG.normal(size=(N, 2, 1))
    cut = rg.windows(({"x": x}, {"y": labels}), 20)
    np.testing.assert_array_equal(cut.targets["y"], np.concatenate([labels[:20], labels[20:]], axis=1))
    assert cut.state == {} and cut.weights is None and cut.dropped == 0


def test_bad_windows() -> None:
    data = rg.prepare({"x": U, "y": Y}, TDNN)
    with pytest.raises(OptionError, match="length: found 38; expected at most 37 steps"):
        rg.windows(data, 38)
    with pytest.raises(OptionError, match="warmup: found 5; expected less than the length, 5"):
        rg.windows(data, 5, warmup=5)
    for name, options in (
        ("length", {"length": 0}),
        ("stride", {"length": 5, "stride": 0}),
        ("warmup", {"length": 5, "warmup": -1}),
    ):
        with pytest.raises(OptionError, match=f"{name}: found"):
            rg.windows(data, **options)
    with pytest.raises(DataError, match="data: found a int"):
        rg.windows(3, 5)
    hidden = (data.inputs, data.targets, None, {"a1": np.zeros((1, 1, 3))})
    with pytest.raises(DataError, match="data: state of 'a1': found a node whose values are no samples"):
        rg.windows(hidden, 5, graph=TDNN)
    for part in (data.data, dict(data), rg.pad([data.data])):
        with pytest.raises(DataError, match=r"state of 'x': found values of which .*does not tell whether they lie"):
            rg.windows(part, 5)
    with pytest.raises(OptionError, match="tail: found 4; expected less than what the warm-up leaves of the length, 4"):
        rg.windows(data, 5, warmup=1, tail=4)
    assert set(rg.windows(hidden, 37).state) == {"a1"}
    weights = np.zeros((37, 1))
    weights[0] = 1.0
    with pytest.raises(DataError, match="found windows without a step that counts"):
        rg.windows((data.inputs, data.targets, weights), 5, warmup=1)


# Padding.


def sequences(loss: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    classes = loss == "cross_entropy"
    found = []
    for length in (7, 3, 12, 1):
        x = RNG.normal(size=(length, 2))
        y = RNG.integers(0, 3, size=length) if classes else RNG.normal(size=(length, 3))
        found.append(({"x": x}, {"y": y}))
    return found


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("one_target", [False, True])
def test_gradient_on_the_padded_batch_is_the_weighted_sum_of_each(loss: str, one_target: bool) -> None:
    graph = rg.zoo.elman(2, 4, 3, recurrence="dense")
    kernel = rg.compile(graph, loss=loss, dtype="float64")
    params = kernel.init()
    given = sequences(loss)
    if one_target:
        given = [(inputs, {"y": targets["y"][-1]}) for inputs, targets in given]
    batch = rg.pad(given, one_target=one_target)
    assert batch.lengths == (7, 3, 12, 1) and batch.weights is not None and batch.weights.shape == (12, 4)
    total, gradient = 0.0, np.zeros_like(params.vector)
    counted = 0
    for inputs, targets in given:
        length = len(inputs["x"])
        y = np.asarray(targets["y"])
        weights = np.ones((length, 1))
        if one_target:
            y = np.stack([y] * length)
            weights[:-1] = 0.0
        each, grads = kernel.loss_and_gradient(params, {"x": inputs["x"][:, None]}, {"y": y[:, None]}, weights=weights)
        total += weights.sum() * each
        gradient += weights.sum() * grads.vector
        counted += int(weights.sum())
    found, grads = kernel.loss_and_gradient(params, **batch)
    close(found, total / counted)
    close(grads.vector, gradient / counted)
    listed = rg.buckets(given, 2, one_target=one_target)
    assert [part.lengths for part in listed] == [(1, 3), (7, 12)]
    shares = [part.weights.sum() for part in listed if part.weights is not None]
    close(sum(share * kernel.loss(params, **part) for share, part in zip(shares, listed, strict=True)) / counted, found)
    history = rg.fit(kernel, params, listed, epochs=2, progress=False)
    assert history.epochs == 2


def test_pad_forms() -> None:
    x, y = RNG.normal(size=(4, 2, 1)), RNG.normal(size=(4, 2, 1))
    state = {"x": np.ones((3, 2, 1))}
    weights = RNG.random((4, 2))
    one = {"inputs": {"x": x[:2, :1]}, "targets": {"y": y[:2, :1]}, "state": {"x": np.zeros((3, 1, 1))}}
    found = rg.pad([({"x": x}, {"y": y}, weights, state), one])
    assert found.lengths == (4, 4, 2) and found.weights is not None
    np.testing.assert_array_equal(found.weights[:, :2], weights)
    np.testing.assert_array_equal(found.weights[:, 2], [1, 1, 0, 0])
    np.testing.assert_array_equal(found.state["x"][0, :, 0], [1, 1, 0])
    np.testing.assert_array_equal(found.inputs["x"][:, 2, 0], [*x[:2, 0, 0], 0, 0])
    plain = rg.pad([({"x": U}, {"y": Y}, abs(U)), ({"x": U[:5]}, {"y": Y[:5]})])
    assert plain.inputs["x"].shape == plain.targets["y"].shape == (N, 2, 1) and plain.weights is not None
    np.testing.assert_array_equal(plain.weights[:, 0], abs(U))
    batched = rg.pad([({"x": x}, {"y": np.array([2, 1])}), ({"x": x[:2]}, {"y": np.array([0, 1])})], one_target=True)
    np.testing.assert_array_equal(batched.targets["y"], [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [2, 1, 0, 0]])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "sequences: found no sequences"),
        (3, {}, "sequences: found a int"),
        ([3], {}, r"sequences\[0\]: found a int"),
        (
            [({"x": U}, {"y": Y}), ({"z": U}, {"y": Y})],
            {},
            r"sequences\[1\]: found input of \['z'\]; expected input of \['x'\]",
        ),
        ([({"x": U}, {"y": Y[:3]})], {}, r"sequences\[0\]: target 'y': found T=3"),
        (
            [({"x": U}, {"y": Y}), ({"x": np.ones((3, 2))}, {"y": Y[:3]})],
            {},
            r"sequences\[1\]: input 'x': found shape \(3, 1, 2\)",
        ),
        (
            [({"x": U}, {"y": Y}), ({"x": U}, {"y": np.ones(N, int)})],
            {},
            "target 'y': found shape .* or all of them classes",
        ),
        (
            [({"x": U}, {"y": Y[:, None]})],
            {"one_target": True},
            r"shape \(40, 1\); expected one target for the sequence: \(size,\)",
        ),
        (
            [({"x": U}, {"y": np.ones(N, int)})],
            {"one_target": True},
            r"shape \(40,\); expected one target for the sequence: one class",
        ),
        ([({"x": U}, {"y": 1}, np.ones(N))], {"one_target": True}, "weights with one_target"),
        ([({"x": np.where(U > 0, np.nan, U)}, {"y": Y})], {}, "NaN"),
    ],
)
def test_bad_sequences(given: Any, options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rg.pad(given, **options)


def test_buckets_tell_the_order() -> None:
    given = [({"x": np.full((n, k, 1), 10.0 * n)}, {"y": np.zeros((n, k, 1))}) for n, k in ((7, 1), (3, 2), (12, 1))]
    batches = rg.buckets(given, 2)
    assert [batch.order for batch in batches] == [(1, 2, 0), (3,)]
    lengths = np.zeros(4)
    for batch in batches:
        lengths[list(batch.order)] = batch.inputs["x"][0, :, 0] / 10
    assert lengths.tolist() == [7, 3, 3, 12]
    assert rg.pad(given).order == (0, 1, 2, 3)


def test_buckets_check_their_size() -> None:
    with pytest.raises(OptionError, match="batch_size: found 0"):
        rg.buckets(sequences("mse"), 0)


# Splitting.


def test_split_wants_series() -> None:
    with pytest.raises(
        DataError, match=r"found what prepare or windows returned; .* remedy: split first, then prepare"
    ):
        rg.split(rg.prepare({"x": U, "y": Y}, TDNN))


def test_split_in_the_order_of_time() -> None:
    train, check, test = rg.split({"x": U, "y": Y[:, None]})
    assert [len(part["x"]) for part in (train, check, test)] == [28, 6, 6]
    np.testing.assert_array_equal(np.concatenate([part["y"] for part in (train, check, test)]), Y[:, None])
    one, two = rg.split(np.stack([U, Y], 1), (0.5, 0.25), overlap=3)
    np.testing.assert_array_equal(one[:, 0], U[:20])
    np.testing.assert_array_equal(two[:, 1], Y[17:30])
    parts = rg.split([{"x": U}, {"x": Y[:10]}], (0.8, 0.2))
    assert [[len(each["x"]) for each in part] for part in parts] == [[32, 8], [8, 2]]
    # with overlap = D, every step of the later part is there
    data = rg.prepare(two, rg.zoo.tdnn((1, 1), [3]))
    close(data.targets["y"][:, 0, 0], Y[20:30])


@pytest.mark.parametrize(
    ("given", "fractions", "message"),
    [
        ({"x": U}, (), r"fractions: found \(\)"),
        ({"x": U}, 0.5, "fractions: found 0.5"),
        ({"x": U}, (0.9, 0.2), "fractions: found a sum of 1.1"),
        ({"x": U}, (0.9, -0.2), "fractions: found -0.2"),
        ({"x": U[:2]}, (0.9, 0.1), "series: found 2 samples; expected at least one in every part"),
        ({"x": U, "y": Y[:3]}, (0.9, 0.1), r"series of \[3, 40\] samples"),
    ],
)
def test_bad_splits(given: Any, fractions: Any, message: str) -> None:
    with pytest.raises((DataError, OptionError), match=message):
        rg.split(given, fractions)
