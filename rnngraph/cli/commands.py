"""The commands. Errors of rnngraph become one line on standard error and exit code 2, in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table

import rnngraph as rg
from rnngraph.backends import PRINTERS, check_backend
from rnngraph.cli.data import parse_columns, read_training
from rnngraph.cli.graphs import read_graph
from rnngraph.errors import OptionError, RNNGraphError
from rnngraph.files import check_writable, load_state, load_table, save_arrays, save_graph, write_atomic
from rnngraph.listing import as_text_drawing
from rnngraph.program import build_program
from rnngraph.rules import Rule
from rnngraph.series.plan import FILLS
from rnngraph.train import EKF, LBFGS, SGD, Adam, LevenbergMarquardt, Momentum

OPTIMIZERS: dict[str, Callable[..., Any]] = {"adam": Adam, "sgd": SGD, "momentum": Momentum}
WITHOUT_RATE: dict[str, Callable[..., Any]] = {"lbfgs": LBFGS, "levenberg-marquardt": LevenbergMarquardt, "ekf": EKF}
WIDTH = 100
WIDEST = 160  # of tables in a pipe or a file


class _Failure(click.ClickException):
    """One line on standard error, exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"rnngraph: {' '.join(self.format_message().split())}", file=file, err=True)


class _Commands(click.Group):
    """A group whose commands may raise RNNGraphError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RNNGraphError as error:
            raise _Failure(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@click.version_option(rg.__version__, prog_name="rnngraph", message="%(prog)s %(version)s")
def main() -> None:
    """Equations, code and training for networks with loops and delays.

    A GRAPH is zoo:NAME, zoo:NAME(arguments), FILE.py:NAME (a graph or a function that returns one) or FILE.json.

    Example: rnngraph derive "zoo:elman(3, 16, 2)"
    """


def _writable(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    """A path that can be written to, checked before the work whose result goes there."""
    if path is not None:
        check_writable(path)
    return path


def output_option(*names: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that takes the path of a file to write."""
    return click.option(*names, type=click.Path(), callback=_writable, help=help)


graph_argument = click.argument("graph")
loss_option = click.option(
    "--loss", "losses", multiple=True, metavar="[OUTPUT=]LOSS",
    help="mse (the default), cross_entropy, binary_cross_entropy or an expression in y and target; once per output.",
)  # fmt: skip
backend_option = click.option("--backend", default="numpy", show_default=True, help="numpy, c or cupy.")
dtype_option = click.option("--dtype", default="float32", show_default=True, help="float32 or float64.")


@main.command()
@graph_argument
@output_option("--save", help="Also write the graph to this file as node-link JSON.")
def show(graph: str, save: str | None) -> None:
    """List a network's nodes, what they read, and its parameters.

    Example: rnngraph show zoo:lstm
    """
    network = read_graph(graph)
    listing = as_text_drawing(network)
    model = rg.validate(network)
    table = Table("parameter", "shape", "numbers", title="Parameters", title_justify="left")
    total = 0
    for name, shape in model.parameters.items():
        count = 1
        for length in shape:
            count *= length
        total += count
        table.add_row(_plain(name), " x ".join(map(str, shape)), str(count))
    table.add_section()
    table.add_row("all", "", str(total))
    click.echo(listing)
    click.echo()
    _print(table)
    if save is not None:
        save_graph(network, save)
        click.echo(f"written to {save}", err=True)


@main.command()
@graph_argument
@loss_option
@click.option("--latex", is_flag=True, help="Write LaTeX (an align environment) instead of text.")
@click.option("--gradient/--forward", "whole", default=True, help="With loss and gradient (the default), or without.")
def derive(graph: str, losses: Sequence[str], latex: bool, whole: bool) -> None:
    """Print a network's numbered equations: forward, loss, backward, gradients.

    Example: rnngraph derive zoo:elman --loss cross_entropy --latex
    """
    network = read_graph(graph)
    system = rg.gradient(network, loss=_loss(losses)) if whole else rg.derive(network)
    click.echo(system.latex() if latex else str(system))


@main.command()
@graph_argument
@loss_option
@backend_option
@dtype_option
@output_option("--output", "-o", help="The file to write; standard output if left out.")
def emit(graph: str, losses: Sequence[str], backend: str, dtype: str, output: str | None) -> None:
    """Write the standalone source file that computes a network, its loss and its gradient.

    Example: rnngraph emit zoo:lstm --loss mse --output lstm_numpy.py
    """
    backend, dtype = check_backend(backend, dtype)
    compilation = build_program(read_graph(graph), _loss(losses), Rule(), dtype, ("parameters",))
    source = PRINTERS[backend](compilation.program)  # not loaded: a CuPy file can be written where CuPy is not
    if output is None:
        click.echo(source, nl=False)
    else:
        write_atomic(output, source)
        click.echo(f"written to {output}", err=True)


@main.command()
@graph_argument
@click.argument("params", type=click.Path(exists=True, dir_okay=False))
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--name", default="network", show_default=True, help="What files and names in C begin with.")
@click.option("--state", type=click.Path(exists=True, dir_okay=False), help="The state to start from, an npz file.")
@dtype_option
def embed(graph: str, params: str, directory: str, name: str, state: str | None, dtype: str) -> None:
    """Write one step of a trained network as C for a device: header, source and a test with recorded steps.

    PARAMS is an npz file of its parameters, as train --save writes it.

    Example: rnngraph embed zoo:lstm params.npz device --name lstm
    """
    kernel = rg.compile(read_graph(graph), dtype=dtype)
    start = None if state is None else load_state(state)
    files = kernel.save_c(directory, load_table(params), name=name, state=start)
    click.echo(f"written to {', '.join(map(str, files))}", err=True)


@main.command()
@graph_argument
@loss_option
@click.option("--seed", default=0, show_default=True, help="Seed of the random parameters and data.")
def verify(graph: str, losses: Sequence[str], seed: int) -> None:
    """Compare a network's derived gradient with independent derivatives.

    Example: rnngraph verify zoo:gru --loss mse
    """
    verification = rg.verify(read_graph(graph), loss=_loss(losses), seed=seed)
    table = Table("check", "quantity", "error", "tolerance", "passed", "compared")
    for row in verification.rows:
        table.add_row(
            _plain(row.check), _plain(row.quantity), f"{row.error:.3g}", f"{row.tolerance:.3g}",
            "yes" if row.passed else "[bold red]no[/]", _plain(row.detail),
        )  # fmt: skip
    _print(table)


@main.command()
@graph_argument
@click.argument("data", type=click.Path(exists=True, dir_okay=False))
@click.option("--input", "inputs", multiple=True, metavar="NODE=COLUMNS", help="Columns of an input: x=a,b or x=1-3.")
@click.option("--target", "targets", multiple=True, metavar="NODE=COLUMNS", help="Columns of an output's target.")
@loss_option
@backend_option
@dtype_option
@click.option("--epochs", default=20, show_default=True, help="Passes over the data.")
@click.option("--learning-rate", type=float, help="Of the optimizer; its own default if left out.")
@click.option("--optimizer", type=click.Choice([*OPTIMIZERS, *WITHOUT_RATE]), default="adam", show_default=True)
@click.option(
    "--fill",
    type=click.Choice(FILLS),
    default="samples",
    show_default=True,
    help="samples: the first samples fill the delays, in each window those before it; initial: all samples are steps, "
    "and delays read initial values.",
)
@click.option("--horizon", type=click.IntRange(min=0), default=0, help="The target is the sample so many steps later.")
@click.option("--window", type=click.IntRange(min=1), help="Cut long sequences into sequences of so many steps.")
@click.option("--batch-size", type=int, help="Sequences in a mini-batch; all of them if left out.")
@click.option("--clip-norm", type=float, help="Bound of the gradient's norm.")
@click.option("--validation", type=click.Path(exists=True, dir_okay=False), help="A second table, for validation.")
@click.option("--patience", type=int, help="Stop after so many epochs without a lower validation loss.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first parameters and of the order of batches.")
@output_option("--save", help="Write the trained parameters to this npz file.")
def train(
    graph: str,
    data: str,
    inputs: Sequence[str],
    targets: Sequence[str],
    losses: Sequence[str],
    backend: str,
    dtype: str,
    epochs: int,
    learning_rate: float | None,
    optimizer: str,
    fill: str,
    horizon: int,
    window: int | None,
    batch_size: int | None,
    clip_norm: float | None,
    validation: str | None,
    patience: int | None,
    seed: int,
    save: str | None,
) -> None:
    """Train a network on a table: a CSV file with a row per time step, or an npz file of arrays.

    Arrays are (T, batch, units), or (T, units) for a single sequence; a class target is one column of numbers from 0.

    Example: rnngraph train "zoo:elman(2, 16, 1)" series.csv --input x=u,v --target y=y --save params.npz
    """
    network = read_graph(graph)
    loss = _loss(losses)

    def read(path: str) -> Any:
        columns = parse_columns(inputs, "--input"), parse_columns(targets, "--target")
        return read_training(path, network, *columns, window=window, loss=loss, fill=fill, horizon=horizon)

    method = _optimizer(optimizer, learning_rate)
    training = read(data)
    kernel = rg.compile(network, loss=loss, backend=backend, dtype=dtype)
    params = kernel.init(seed=seed)
    history = rg.fit(
        kernel, params, training, optimizer=method, epochs=epochs, batch_size=batch_size,
        validation=None if validation is None else read(validation), patience=patience, clip_norm=clip_norm, seed=seed,
    )  # fmt: skip
    click.echo(str(history))
    if save is not None:
        save_arrays({name: array.get() if backend == "cupy" else array for name, array in params.items()}, save)
        click.echo(f"written to {save}", err=True)


def _loss(options: Sequence[str]) -> Any:
    """The loss as ``rnngraph.compile`` takes it: one for all outputs, or a mapping."""
    if not options:
        return "mse"
    parts = [option.partition("=") for option in options]
    if len(parts) == 1 and not parts[0][1]:
        return options[0]
    losses: dict[str, str] = {}
    for output, separator, loss in parts:
        if not separator or not output or not loss or output in losses:
            raise OptionError("--loss", repr(list(options)), "one LOSS, or one OUTPUT=LOSS per output", "mend --loss")
        losses[output] = loss
    return losses


def _optimizer(name: str, learning_rate: float | None) -> Any:
    if name in WITHOUT_RATE:
        if learning_rate is not None:
            raise OptionError("--learning-rate", f"{learning_rate} with {name}", "none", "it finds its own step")
        return WITHOUT_RATE[name]()
    if learning_rate is None:
        return OPTIMIZERS[name]()
    return OPTIMIZERS[name](learning_rate)


def _plain(text: str) -> str:
    """Text for a table's cell: printable, and none of it taken for rich's markup."""
    return "".join(character if character.isprintable() else "?" for character in text).replace("[", r"\[")


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDEST)
    console.print(table)
