"""A plant's model on a microcontroller: trained in open loop, closed, scaled inside, and written as C.

    python examples/embedded.py [folder]

A tank's level y follows its inflow u. A NARX network learns it from measured levels; closed, it simulates the plant on
a device from the inflow alone. Scaling is folded into the network, so that its C takes and gives the plant's units,
percent and millimetres. Where there is a C compiler, the step is compiled and run against recorded steps.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import rnngraph as rg


def plant(inflow: np.ndarray) -> np.ndarray:
    """The level of a tank with an outflow of Torricelli's law, in millimetres; inflow in percent."""
    levels = np.empty(len(inflow))
    level = 300.0
    for k, flow in enumerate(inflow):
        levels[k] = level
        level += 2.4 * flow - 6.0 * np.sqrt(level)
    return levels


def train() -> tuple[rg.Kernel, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The closed network in the plant's units, its parameters, and the state after the training data."""
    rng = np.random.default_rng(0)
    u = np.repeat(rng.uniform(20, 80, 60), 20)  # steps of the valve
    series = {"x": u, "y": plant(u)}
    graph = rg.zoo.narx(1, 6, 1, [1, 2], [1, 2], loop="open")
    scaling = rg.Scaling.fit(series)
    data = rg.prepare(scaling.scale(series, graph=graph), graph)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init(seed=0)
    print(rg.fit(kernel, params, data, rg.LevenbergMarquardt(), epochs=15, progress=False))
    _, state = kernel.forward(params, data.inputs, data.state)
    closed, closed_params, closed_state = rg.close_loop(graph, params, state)
    folded, folded_params = scaling.fold(closed, closed_params)
    return rg.compile(folded), folded_params, {f"{node}_scaled": values for node, values in closed_state.items()}


def main(arguments: list[str] | None = None) -> str | None:
    """Write the C, and run its test; returns what the test prints, or None without a compiler."""
    arguments = sys.argv[1:] if arguments is None else arguments
    folder = Path(arguments[0] if arguments else "examples/output/embedded")
    kernel, params, state = train()
    recorded = np.repeat(np.random.default_rng(1).uniform(20, 80, 5), 20)[
        :, None, None
    ]  # inflows it was not trained on
    header, source, test = kernel.save_c(folder, params, name="tank", state=state, inputs={"x": recorded})
    print(header.read_text())
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print(f"no C compiler here; the files are in {folder}")
        return None
    program = folder / "tank_test"
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-O2"]
    subprocess.run([compiler, *flags, str(source), str(test), "-o", str(program), "-lm"], check=True)
    printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    print(printed)
    return printed


if __name__ == "__main__":
    main()
