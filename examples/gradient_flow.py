"""How far back a gradient reaches: an Elman network beside an LSTM, as products of Jacobians and as measured norms.

    python -m examples.gradient_flow
    python -m examples.gradient_flow flow.png

Prints every path from a state to itself two steps later with its product of Jacobians, then the norms of such products
for lags up to 100 on random inputs; with a file's name it draws them (needs the extra ``plot``). Along the path of the
LSTM's cell to itself there are forget gates and nothing else, its constant error carousel (Hochreiter and Schmidhuber
1997). The forget gates' bias is 5 here, so that the gates are near 1 as after learning to remember.
"""

from __future__ import annotations

import argparse

import numpy as np

import rnngraph as rg

INPUTS, UNITS, STEPS, BATCH = 4, 32, 200, 1
FORGET_BIAS = 5.0


def measure(seed: int = 0) -> dict[str, rg.GradientFlow]:
    """The gradient flow of both networks, at their initial weights, on the same random inputs."""
    inputs = {"x": np.random.default_rng(seed).normal(size=(STEPS, BATCH, INPUTS))}
    elman = rg.zoo.elman(INPUTS, UNITS, 1, recurrence="dense")
    elman_params = rg.compile(elman, dtype="float64").init(seed=seed)
    lstm = rg.zoo.lstm(INPUTS, UNITS)
    lstm_params = rg.compile(lstm, dtype="float64").init(seed=seed)
    lstm_params["b_f"][:] = FORGET_BIAS
    return {
        "Elman network": rg.gradient_flow(elman, elman_params, inputs),
        f"LSTM, forget gates' bias {FORGET_BIAS:g}": rg.gradient_flow(lstm, lstm_params, inputs, nodes=["c"]),
    }


def main(arguments: list[str] | None = None) -> dict[str, rg.GradientFlow]:
    """Print the paths and the norms; draw the norms where a file is named. Returns the norms."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.gradient_flow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("picture", nargs="?", help="file for the picture of the norms: .png, .pdf or .svg")
    options = parser.parse_args(arguments)
    print(rg.gradient_paths(rg.zoo.elman(INPUTS, UNITS, 1, recurrence="dense"), "a", lag=2), end="\n\n")
    print(rg.gradient_paths(rg.zoo.lstm(INPUTS, UNITS), "c", lag=2), end="\n\n")
    flows = measure()
    for title, flow in flows.items():
        print(title, flow, sep="\n", end="\n\n")
    if options.picture:
        rg.plot_gradient_flow(flows, options.picture)
        print(f"Written to {options.picture}")
    return flows


if __name__ == "__main__":
    main()
