"""The equations of an LSTM and of its gradient: as text, and as LaTeX for a lecture or a paper.

    python examples/equations.py
    python examples/equations.py --latex

The LaTeX is one ``align`` environment and needs the package amsmath.
"""

from __future__ import annotations

import argparse

import networkx as nx

import rnngraph as rg


def lstm(inputs: int, units: int) -> nx.MultiDiGraph:
    """LSTM with a forget gate, written out: gates i, f, o, cell input z, cell c, output h."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    for gate, function in {"i": "sigmoid", "f": "sigmoid", "o": "sigmoid", "z": "tanh"}.items():
        graph.add_node(gate, size=units, activation=function)
        graph.add_edge("x", gate)
        graph.add_edge("h", gate, delay=1)
    graph.add_node("c", size=units, equation="f*c_prev + i*z")
    graph.add_node("h", kind="output", size=units, equation="o*tanh(c)")
    for port in "ifz":
        graph.add_edge(port, "c", port=port)
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("o", "h", port="o")
    graph.add_edge("c", "h", port="c")
    return graph


def main(arguments: list[str] | None = None) -> None:
    """Print the forward pass, the loss, the backward pass and the gradients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latex", action="store_true", help="LaTeX in place of text")
    options = parser.parse_args(arguments)
    system = rg.gradient(lstm(3, 4), loss="mse")
    print(system.latex() if options.latex else system)


if __name__ == "__main__":
    main()
