"""Networks turned into networks: an Elman network unrolled over time, its delays as nodes, and its adjoint.

    python -m examples.graph_algebra
    python -m examples.graph_algebra examples/output

Prints the network unrolled over three steps, whose copies share their weights, and how far its gradient is from that of
backpropagation through time: rounding errors. With a folder's name it draws the unrolled network and its adjoint, the
way that the deltas take back through time (needs the extra ``plot``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import rnngraph as rg

STEPS, BATCH = 3, 4


def compare(seed: int = 0) -> float:
    """The largest difference between the gradients of the Elman network and of its unrolled copy."""
    elman = rg.zoo.elman(2, 3, 1, recurrence="dense")
    kernel = rg.compile(elman, dtype="float64")
    params, rng = kernel.init(seed), np.random.default_rng(seed)
    x, target = rng.normal(size=(STEPS, BATCH, 2)), rng.normal(size=(STEPS, BATCH, 1))
    _, gradient = kernel.loss_and_gradient(params, {"x": x}, {"y": target})

    unrolled = rg.compile(rg.unfold(elman, STEPS), dtype="float64")
    inputs = {f"x@{t}": x[t - 1 : t] for t in range(1, STEPS + 1)}  # sequences of one step
    targets = {f"y@{t}": target[t - 1 : t] for t in range(1, STEPS + 1)}
    _, shared = unrolled.loss_and_gradient({name: params[name] for name in params}, inputs, targets)
    # The loss of y is a mean over the steps, the losses of y@1, y@2, ... are added up.
    return max(float(np.abs(shared[name] / STEPS - gradient[name]).max()) for name in gradient)


def halves(seed: int = 0) -> float:
    """The largest difference between the outputs of an LSTM and of the LSTM split into two layers."""
    lstm = rg.zoo.lstm(2, 6)
    kernel = rg.compile(lstm, dtype="float64")
    params, x = kernel.init(seed), np.random.default_rng(seed).normal(size=(20, BATCH, 2))
    split, parts = rg.split_layer(lstm, ["i", "f", "o", "z", "c", "h"], [4, 2], params)
    whole, _ = kernel.forward(params, {"x": x})
    outputs, _ = rg.compile(split, dtype="float64").forward(parts, {"x": x})
    return float(np.abs(np.concatenate([outputs["h_1"], outputs["h_2"]], axis=2) - whole["h"]).max())


def main(arguments: list[str] | None = None) -> tuple[float, float]:
    """Print the networks and the differences; draw where a folder is named. Returns the two differences."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.graph_algebra",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, help="folder for the two pictures")
    folder: Path | None = parser.parse_args(arguments).folder
    elman = rg.zoo.elman(2, 3, 1, recurrence="dense")
    unrolled = rg.unfold(elman, STEPS)
    print(f"An Elman network unrolled over {STEPS} steps", rg.as_text_drawing(unrolled), sep="\n\n", end="\n\n")
    gradient = compare()
    print(f"Its gradient, beside that of the recurrent network: at most {gradient:.1e} apart", end="\n\n")
    narx = rg.zoo.narx(1, 2, 1, 3, 2)
    print("A NARX network with delays of 1 alone", rg.as_text_drawing(rg.expand_delays(narx)), sep="\n\n", end="\n\n")
    split = halves()
    print(f"An LSTM of 6 units, split into 4 and 2: outputs at most {split:.1e} apart", end="\n\n")
    print("The adjoint of the Elman network, in reversed time", rg.derive(rg.transpose(elman)), sep="\n\n")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        rg.draw(unrolled, folder / "unfolded.png")
        rg.draw(rg.transpose(unrolled), folder / "unfolded_adjoint.png")
        print(f"Written to {folder}: unfolded.png, unfolded_adjoint.png")
    return gradient, split


if __name__ == "__main__":
    main()
