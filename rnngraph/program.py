"""Graph -> ir.Program: the driver that names every stage."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import time

import networkx as nx

from codegen.program import Checkpoint, Layer, Program
from rnngraph.checkpoint import ends_of, window_gradient
from rnngraph.derive import derive_model
from rnngraph.display import DisplayEquation, as_text, equation_lines, equation_numbers, inline
from rnngraph.gradient import differentiate
from rnngraph.initialise import RULES
from rnngraph.losses import resolve_losses, with_loss
from rnngraph.lower import ParameterLayout, lay_out_parameters, lower, parameter_roles
from rnngraph.model import Model
from rnngraph.paths import components
from rnngraph.precision import check_constants
from rnngraph.rules import Rule
from rnngraph.schedule import Schedule, build_schedule, build_stream_schedule
from rnngraph.system import System
from rnngraph.units import Grouping, as_given, group_units
from rnngraph.validate import validate

SPARSE_FAMILIES = ("bptt", "windows")  # of learning rules, whose derivation knows sparse products


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What the stages made: the Systems of the forward pass, with the loss and with its gradient; the rule; the
    schedules by function, where the parameters lie, the program, the role of each parameter, the seconds of each
    stage.
    ``grouping`` tells what the caller names from what runs."""

    forward: System
    loss: System
    gradient: System
    rule: Rule
    schedules: dict[str, Schedule]
    layout: ParameterLayout
    program: Program
    roles: dict[str, str]
    grouping: Grouping
    seconds: dict[str, float]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now


def build_program(
    graph: nx.MultiDiGraph | Model,
    loss: object,
    rule: Rule,
    dtype: str,
    wrt: tuple[str, ...],
    checkpoint: int | None = None,
) -> Compilation:
    """Every stage from the graph, or from its Model, to the program, in order. ``checkpoint``: the steps of a window
    between kept states. Raises what the stages raise."""
    clock = _Clock()
    model = graph if isinstance(graph, Model) else validate(graph)  # nx.MultiDiGraph -> Model
    clock.lap("validate")
    losses = resolve_losses(tuple(node.name for node in model.outputs), loss)
    grouped = rule.info.family in SPARSE_FAMILIES and checkpoint is None
    grouping = group_units(model, losses) if grouped else as_given(model)  # -> Model
    clock.lap("group")
    forward = derive_model(grouping.model, grouping.layers)  # Model -> System
    with_totals = with_loss(forward, grouping.losses(losses) if grouping.layers else loss)  # System -> System
    clock.lap("derive")
    gradient = differentiate(with_totals, rule, wrt)  # System -> System
    check_constants(gradient, dtype)
    clock.lap("differentiate")
    systems = {"forward": forward, "loss": with_totals, "loss_and_gradient": gradient}
    if rule.info.family == "windows":
        systems = {"forward": forward, "loss": with_totals, "window_loss": with_totals, "window_gradient": gradient}
    if checkpoint is not None:
        windows = {"window_loss": with_totals, "window_gradient": window_gradient(with_totals, wrt)}
        systems = {"forward": forward, "loss": with_totals, **windows}
    schedules = {name: build_schedule(system) for name, system in systems.items()}  # System -> Schedule
    if forward.look_ahead is None:  # else no step can be computed before the next
        schedules["stream"] = build_stream_schedule(forward)
    clock.lap("schedule")
    shown = inline(gradient)  # System -> numbered equations
    notes, header = equation_notes(gradient, shown), as_text(gradient, shown).splitlines()
    clock.lap("display")
    layout = lay_out_parameters(forward, schedules["forward"])  # Schedule -> ParameterLayout
    functions = tuple(lower(schedule, layout, name, notes) for name, schedule in schedules.items())  # -> ir.Function
    clock.lap("lower")
    drawn = grouping.scaled(layout.named())
    named = grouping.named(drawn)
    depths = dict(model.depths)
    program = Program(
        functions=functions,
        parameters=named,
        vector_size=layout.size,
        inputs={node.name: node.size for node in model.inputs},
        outputs={node.name: node.size for node in model.outputs},
        states={
            name: (depth, model.nodes[name].size, model.nodes[name].initial) for name, depth in model.depths.items()
        }
        | {
            forward.ahead_names[name]: (depth, model.nodes[name].size, model.nodes[name].initial)
            for name, depth in model.ahead_depths.items()
        },
        losses={
            output: "classes" if kind == "cross_entropy" else "values"
            for output, kind in grouping.by_unit(with_totals.losses).items()
        },
        dtype=dtype,
        title=_title(model, rule),
        header=tuple(header),
        rules={rule: rule_source(rule) for rule in dict.fromkeys(parameter.rule for parameter in drawn)},
        wrt=wrt,
        noise_seed=gradient.noise_seed,
        windows=gradient.windows,
        inner_size=layout.inner_size,
        ahead=tuple(forward.ahead_names.values()),
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint, tuple(ends_of(with_totals, wrt).items())),
        layers={
            name: Layer(units, tuple(depths.get(unit, 0) for unit in units)) for name, units in grouping.layers.items()
        },
        drawn=drawn if grouping.layers else (),
    )
    roles = parameter_roles(forward)
    clock.lap("tables")
    return Compilation(
        forward,
        with_totals,
        gradient,
        rule,
        schedules,
        layout,
        program,
        {name: roles[grouping.parameter(name)] for name in model.parameters},
        grouping,
        clock.seconds,
    )


def _title(model: Model, rule: Rule) -> str:
    """The first line of the emitted source."""
    reads = [(edge.source, edge.destination) for edge in model.edges]
    loops = any(a == b for a, b in reads) or len(components(model.nodes, reads)) < len(model.nodes)
    what = "Recurrent network" if loops else "Network"
    nodes = f": {', '.join(model.nodes)}" if len(model.nodes) <= 12 else f" of {len(model.nodes)} nodes"
    return f"{what}{nodes}. Forward pass, loss and gradient ({rule})."


def equation_notes(system: System, shown: list[DisplayEquation]) -> dict[str, str]:
    """For each signal and total, the numbered equation that computes it: a comment of the emitted source."""
    lines = dict(equation_lines(system, shown))
    numbers = equation_numbers(system, shown, absorbed=False)
    return {name: f"({number}) {lines[number]}" for name, number in numbers.items()}


def rule_source(rule: str) -> str:
    """The text of an initialisation rule without its annotations, as it stands in an emitted file."""
    function = RULES[rule]
    lines = textwrap.dedent(inspect.getsource(function)).rstrip().splitlines()
    body = next(number for number, line in enumerate(lines) if line.endswith(":")) + 1
    return "\n".join([f"def {rule}({', '.join(inspect.signature(function).parameters)}):", *lines[body:]])
