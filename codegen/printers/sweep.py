"""How a Sweep prints: array expressions on matrices per sequence, alike for NumPy and CuPy.

A product writes into the slot of the present and reads that of the past, so that no step copies a sensitivity; sums of
products are folded with ``out=`` and a scratch buffer where the target is large.
"""

from __future__ import annotations

from typing import Protocol

from codegen.functions import PointwiseFunction
from codegen.ir import Expression, View
from codegen.names import Namer, comment_text
from codegen.sweep import (
    Contract,
    Expand,
    Lifted,
    Operand,
    Record,
    RowAssign,
    RowBuffer,
    RowProduct,
    RowStatement,
    RowSum,
    RowView,
    Sweep,
)
from codegen.ufuncs import UFUNCS

FEWEST_ROWS = 64  # of a block: below, the calls cost more than the packing

HELPERS = {
    "_contract": '''
def _contract(gradient, sensitivity, error):
    """Add the sensitivity (batch, parameters, units) times the error (batch, units), summed over batch and units."""
    product = {xp}.matmul(sensitivity, error[:, :, None])
    gradient += product.sum(axis=0).reshape(gradient.shape)
''',
    "_contract_local": '''
def _contract_local(gradient, sensitivity, error):
    """Add the local sensitivity (batch, rows, units) times the error (batch, units), summed over the batch."""
    gradient += {xp}.einsum("bik,bk->ik", sensitivity, error).reshape(gradient.shape)
''',
    "_record": '''
def _record(jacobian, columns, sensitivity):
    """Put a sensitivity (batch, parameters, units) into its columns of the Jacobian (batch, units, VECTOR_SIZE)."""
    jacobian[:, :, columns.ravel()] = sensitivity.transpose(0, 2, 1)
''',
    "_record_local": '''
def _record_local(jacobian, columns, sensitivity):
    """Put a local sensitivity (batch, rows, units) into its columns: unit k has those of the weights into it."""
    jacobian[:, {xp}.arange(columns.shape[1])[None, :], columns] = sensitivity
''',
    "_add_unit": '''
def _add_unit(target, local):
    """Add local (batch, rows, units) where row (i, j) of the target meets unit j."""
    batch, rows, units = local.shape
    diagonal = target.reshape(batch, rows, units * units)[:, :, :: units + 1]
    diagonal += local
''',
    "_add_outer": '''
def _add_outer(target, local, jacobian):
    """Add local_ij jacobian_j. to row (i, j) of the target."""
    by_row = target.reshape(len(local), -1, jacobian.shape[1], jacobian.shape[2])
    by_row += local[:, :, :, None] * jacobian[:, None, :, :]
''',
}


class SweepPrinter(Protocol):
    """What a sweep needs of the printer of the module around it."""

    names: Namer
    helpers: set[str]
    ufuncs: set[str]
    product_size: int

    def view(self, view: View, shown: int | None = None) -> str:
        """A view as an expression; inside a loop a name."""
        ...

    def bind_view(self, view: View) -> str:
        """A parameter or constant inside a loop: a name that is bound before it."""
        ...


class SweepText:
    """Prints one sweep; ``printer`` names what it reads without rows."""

    def __init__(self, printer: SweepPrinter, sweep: Sweep) -> None:
        self.printer = printer
        self.sweep = sweep
        self.slots: dict[str, str] = {}  # name in the loop -> its expression
        self.gradients: dict[str, View] = {}
        self.columns: dict[str, View] = {}
        self.scratch: dict[tuple[int, int], str] = {}

    def carried(self) -> list[RowBuffer]:
        """The buffers with a past."""
        return [buffer for buffer in self.sweep.buffers().values() if buffer.slots > 1]

    def present(self) -> list[RowBuffer]:
        """The buffers of one step alone."""
        return [buffer for buffer in self.sweep.buffers().values() if buffer.slots == 1]

    def allocations(self) -> list[tuple[str, str]]:
        """(name, shape) of what the workspace holds."""
        shapes = {self.name(buffer): (buffer.rows, buffer.columns) for buffer in self.present()}
        shapes.update({name: shape for shape, name in self.scratch.items()})
        return [(name, f"(batch, {rows}, {columns})") for name, (rows, columns) in shapes.items()]

    def unpacked(self) -> list[str]:
        """Local names of the sensitivities and of what one step needs."""
        lines = [f"{self.name(buffer)} = sensitivities.{self.name(buffer)}" for buffer in self.carried()]
        return lines + [f"{name} = work.{name}" for name, _ in self.allocations()]

    def summed(self, xp: str) -> list[str]:
        """Local names of what the sweep adds up, and of the parameters' columns of a Jacobian."""
        lines = []
        for name, view in self.gradients.items():
            offset, stride = view.buffer.offset, view.buffer.columns
            assert view.rows is not None
            start = offset + view.rows[0] * stride + view.start
            rows = view.rows[1] - view.rows[0]
            shape = (view.columns,) if view.vector else (rows, view.columns)
            lines.append(f"{name} = _part(swept, {shape!r}, {start}, {stride})")
        for name, view in self.columns.items():
            assert view.rows is not None
            stride = view.buffer.columns
            start = view.buffer.offset + view.rows[0] * stride + view.start
            down, across = (f"{xp}.arange({length})" for length in (view.rows[1] - view.rows[0], view.columns))
            lines.append(f"{name} = {start} + {stride} * {down}[:, None] + {across}")
        return lines

    def empty_sums(self, xp: str, size: str) -> list[str]:
        """What the sweep adds up, before its first step."""
        return [f"    swept = {xp}.zeros({size}, DTYPE)"]

    def carried_class(self, xp: str, signs: dict[str, int]) -> list[str]:
        """The class whose instances hold the sensitivities from step to step."""
        made, starts = [], []
        for buffer in self.carried():
            name, shape = self.name(buffer), f"({buffer.slots}, batch, {buffer.rows}, {buffer.columns})"
            made.append(f"self.{name} = {xp}.zeros({shape}, DTYPE)")
            starts.append(f"self.{name}[...] = 0.0")
            if buffer.unit_of is not None:
                starts += unit_lines(xp, buffer, f"self.{name}")
        return carried_class(xp, made, starts, signs)

    def body(self) -> list[str]:
        """The lines inside the loop, without indentation; the slots of the step first."""
        lines: list[str] = []
        for statement in self.sweep.body:
            lines += [f"# {comment_text(line)}" for line in statement.note.split("; ") if line]
            lines += self._statement(statement)
        return [*(f"{name} = {expression}" for name, expression in self.slots.items()), *lines]

    def name(self, buffer: RowBuffer) -> str:
        """The variable that holds a buffer."""
        return self.printer.names.name(("rows", buffer.name), buffer.name)

    def gradient_name(self, view: View) -> str:
        """The variable that holds what the sweep adds up for a parameter."""
        name = self.printer.names.name(("swept", view.label), f"swept_{view.label}")
        self.gradients[name] = view
        return name

    def _statement(self, statement: RowStatement) -> list[str]:
        if isinstance(statement, RowAssign):
            return self._assign(statement)
        if isinstance(statement, RowProduct):
            return self._product(statement)
        if isinstance(statement, Expand):
            return self._expand(statement)
        if isinstance(statement, RowSum):
            axis = "(1, 2)" if statement.over_rows else "-1"
            target, total = (
                self._row(statement.target),
                f"{self._row(statement.source)}.sum(axis={axis}, keepdims=True)",
            )
            return [f"{target} += {total}" if statement.accumulate else f"{target}[...] = {total}"]
        if isinstance(statement, Contract):
            return [self._contract(statement)]
        assert isinstance(statement, Record), "seeds are printed by BlockText"
        return [self._record(statement)]

    def _record(self, statement: Record) -> str:
        helper = "_record_local" if statement.local else "_record"
        self.printer.helpers.add(helper)
        view = statement.parameter
        columns = self.printer.names.name(("columns", view.label), f"columns_of_{view.label}")
        self.columns[columns] = view
        return f"{helper}(jacobians[{statement.output!r}][t - earliest], {columns}, {self._row(statement.sensitivity)})"

    def _contract(self, statement: Contract) -> str:
        if statement.error is None:
            name = self.gradient_name(statement.gradient)
            return f"{name} += {self._row(statement.sensitivity)}.sum(axis=0).reshape({name}.shape)"
        helper = "_contract_local" if statement.local else "_contract"
        self.printer.helpers.add(helper)
        sensitivity, error = self._row(statement.sensitivity), self.printer.view(statement.error)
        return f"{helper}({self.gradient_name(statement.gradient)}, {sensitivity}, {error})"

    def _product(self, statement: RowProduct) -> list[str]:
        right = statement.right
        text = self._row(right) if isinstance(right, RowView) else self.printer.bind_view(right)
        if isinstance(right, RowView) and right.transposed:
            text += ".transpose(0, 2, 1)"
        target = self._row(statement.target)
        self.printer.ufuncs.add("matmul")
        into = self._scratch(statement.target) if statement.accumulate else target
        left = self._row(statement.left)
        blocks = self._blocks(statement) if isinstance(right, RowView) else 1
        if blocks > 1:
            shape = f".reshape(batch, {blocks}, {statement.left.buffer.rows // blocks}, -1)"
            left, text, result = f"{left}{shape}", f"{text}[:, None]", f"{into}{shape}"
            lines = [f"matmul({left}, {text}, out={result})"]
        else:
            lines = [f"matmul({left}, {text}, out={into})"]
        return [*lines, f"{target} += {into}"] if statement.accumulate else lines

    def _blocks(self, statement: RowProduct) -> int:
        """Into how many blocks of rows a product is cut: OpenBLAS multiplies small matrices without packing them."""
        rows, columns = statement.left.buffer.rows, statement.left.buffer.columns * statement.target.buffer.columns
        most = self.printer.product_size // columns
        if most < FEWEST_ROWS or rows <= most:
            return 1
        fits = [count for count in range(2, rows // FEWEST_ROWS + 1) if rows % count == 0 and rows // count <= most]
        return fits[0] if fits else 1

    def _expand(self, statement: Expand) -> list[str]:
        target, local = self._row(statement.target), self._row(statement.local)
        lines = [] if statement.accumulate else [f"{target}[...] = 0.0"]
        if statement.jacobian is None:
            self.printer.helpers.add("_add_unit")
            return [*lines, f"_add_unit({target}, {local})"]
        self.printer.helpers.add("_add_outer")
        return [*lines, f"_add_outer({target}, {local}, {self._row(statement.jacobian)})"]

    # Pointwise expressions.

    def _assign(self, statement: RowAssign) -> list[str]:
        target = self._row(statement.target)
        operands = {symbol: self._operand(operand) for symbol, operand in statement.operands}
        large = {
            symbol for symbol, operand in statement.operands if isinstance(operand, RowView) and not operand.diagonal
        }
        summands = list(statement.expression.args) if statement.expression.is_Add else [statement.expression]
        summands.sort(key=lambda summand: (not summand.free_symbols & large, str(summand)))
        lines: list[str] = []
        for number, summand in enumerate(summands):
            factors = sorted(summand.args, key=lambda f: (f not in large, str(f))) if summand.is_Mul else [summand]
            texts = [self._text(factor, operands) for factor in factors]
            if number == 0 and not statement.accumulate:
                lines += self._fold(texts, target)
            elif len(texts) == 1:
                lines.append(f"{target} += {texts[0]}")
            else:
                scratch = self._scratch(statement.target)
                lines += [*self._fold(texts, scratch), f"{target} += {scratch}"]
        return lines

    def _fold(self, texts: list[str], target: str) -> list[str]:
        if len(texts) == 1:
            return [f"{target}[...] = {texts[0]}"]
        self.printer.ufuncs.add("multiply")
        lines = [f"multiply({texts[0]}, {texts[1]}, out={target})"]
        return lines + [f"{target} *= {text}" for text in texts[2:]]

    def _text(self, expression: Expression, operands: dict[Expression, str]) -> str:
        if expression.is_Symbol:
            return operands[expression]
        if expression.is_number:
            return repr(float(expression))
        if isinstance(expression, PointwiseFunction):
            function = UFUNCS[expression.func.__name__].text.removeprefix("np.")
            self.printer.ufuncs.add(function)
            return f"{function}({', '.join(self._text(argument, operands) for argument in expression.args)})"
        if expression.is_Pow:
            return f"{self._held(expression.base, operands)} ** {int(expression.exp)}"
        joint = " + " if expression.is_Add else " * "
        assert expression.is_Add or expression.is_Mul, f"not a polynomial: {expression}"
        text = joint.join(self._held(argument, operands) for argument in expression.args)
        return f"({text})" if expression.is_Add else text

    def _held(self, expression: Expression, operands: dict[Expression, str]) -> str:
        text = self._text(expression, operands)
        return text if expression.is_Symbol or expression.is_Add else f"({text})"

    def _operand(self, operand: Operand) -> str:
        if isinstance(operand, RowView):
            text = self._row(operand)
            return f"{text}.diagonal(axis1=1, axis2=2)[:, None, :]" if operand.diagonal else text
        assert isinstance(operand, Lifted)
        if operand.view.time is None:
            return self.printer.bind_view(operand.view)
        text = self.printer.view(operand.view)
        return f"{text}[:, None, :]" if operand.along == "units" else f"{text}[:, :, None]"

    def _row(self, view: RowView) -> str:
        buffer = self.name(view.buffer)
        if view.buffer.slots == 1:
            return buffer
        moment = "t" if view.delay == 0 else f"t_minus_{view.delay}"
        name = self.printer.names.name(("slot", view.buffer.name, view.delay), f"{view.buffer.name}_{moment}")
        index = "t" if view.delay == 0 else f"(t - {view.delay})"
        self.slots[name] = f"{buffer}[{index} % {view.buffer.slots}]"
        return name

    def _scratch(self, view: RowView) -> str:
        shape = view.buffer.rows, view.buffer.columns
        if shape not in self.scratch:
            self.scratch[shape] = self.printer.names.name(
                ("row scratch", shape), f"scratch_rows_{len(self.scratch) + 1}"
            )
        return self.scratch[shape]


def unit_lines(xp: str, buffer: RowBuffer, array: str) -> list[str]:
    """Before t = 1 a buffer is the unit matrix unless a state of its node is given."""
    unit = "1.0" if buffer.rows == 1 else f"{xp}.eye({buffer.rows}, dtype=DTYPE)"
    return [f"if {buffer.unit_of!r} not in given:", f"    {array}[...] = {unit}"]


def carried_class(xp: str, made: list[str], starts: list[str], signs: dict[str, int]) -> list[str]:
    """The class whose instances hold the sensitivities from step to step. ``made``: the lines that make them,
    ``starts``: those about their values before t = 1."""
    lines = [
        "class Sensitivities:",
        '    """What the learning rule carries from step to step: of each sensitivity the last values, '
        'in cyclic order."""',
        "",
        "    def __init__(self, _, batch):",
    ]
    lines += [
        *(f"        {line}" for line in made),
        "        self.nbytes = sum(buffer.nbytes for buffer in self.__dict__.values())",
        "        self.batch, self.time = batch, 0",
        *(["        self.signs = {  # where the random signs of each state come from"] if signs else []),
        *(
            f"            {node!r}: np.random.default_rng([{seed}, {number}]),"
            for number, (node, seed) in enumerate(signs.items())
        ),
        *(["        }"] if signs else []),
        "",
        "    def start(self, given):",
        '        """Before t = 1; ``given``: the state that is given, by node."""',
        "        self.time = 0",
        *(f"        {line}" for line in starts),
        "        return self",
        "",
        "    def copy(self):",
        '        """Sensitivities of their own, with the same values."""',
    ]
    lines += ["        other = Sensitivities(0, self.batch)"]
    lines += ["        other.__dict__.update(deepcopy(self.__dict__))", "        return other"]
    return lines


STATE = '''
class State(dict):
    """The state by node after a step, and with it the sensitivities, which the next step changes in place."""

    def __init__(self, nodes, sensitivities):
        super().__init__(nodes)
        self.sensitivities = sensitivities
        self.time = sensitivities.time

    def copy(self):
        """A state of its own: what steps one leaves the other as it is."""
        return State({node: value.copy() for node, value in self.items()}, self.sensitivities.copy())

    __copy__ = copy


def _carried(state, batch):
    """The given state by node, and the sensitivities that came with it or those before t = 1."""
    given = _checked_state(state, batch)
    sensitivities = getattr(state, "sensitivities", None)
    if sensitivities is None:
        return given, Sensitivities(0, batch).start(given)
    if state.time != sensitivities.time:
        raise ValueError(f"state: found that of step {state.time}; expected the last one, of step {sensitivities.time}")
    return given, sensitivities
'''

JACOBIAN = (
    STATE
    + '''

def jacobian(params, inputs, state=None):
    """The outputs, the Jacobian of each by all parameters, and the last state.

    Returns outputs (T, batch, size), Jacobians (T, batch, size, VECTOR_SIZE) by output, and the state, which carries
    the sensitivities on.
    """
    T, batch = _lengths(inputs)
    given, sensitivities = _carried(state, batch)
    outputs, jacobians, last = _advance_jacobian(params, inputs, given, sensitivities)
    return outputs, jacobians, State(last, sensitivities)
'''
)

ONLINE = (
    STATE
    + '''

def loss_and_gradient(params, inputs, targets, state=None, weights=None):
    """The loss and its gradients over a whole sequence.

    ``inputs``: (T, batch, size) by name. ``targets`` by output: {targets}.
    ``state``: (depth, batch, size) by node, or a part of it. ``weights``: (T, batch); the loss is the
    weighted mean.
    """
    T, batch = _lengths(inputs)
    given = _checked_state(state, batch)
    sensitivities = _workspace(Sensitivities, 0, batch).start(given)
    loss, gradients, _ = _advance(params, inputs, targets, given, weights, sensitivities)
    return loss, gradients


def step_and_gradient(params, state, inputs, targets):
    """One time step online: the loss of the step, its gradients, and the next state. Memory does not grow with time.

    ``state``: None at first, then what the last step returned. ``inputs``: (batch, size) by name. ``targets`` as for
    ``loss_and_gradient``, without the axis of time.
    """
    inputs = {name: value[None] for name, value in inputs.items()}
    targets = {name: value[None] for name, value in targets.items()}
    return advance(params, state, inputs, targets)


def advance(params, state, inputs, targets):
    """``step_and_gradient`` for any number of steps at once: the mean loss and gradients of (T, batch, size)."""
    T, batch = _lengths(inputs)
    given, sensitivities = _carried(state, batch)
    loss, gradients, last = _advance(params, inputs, targets, given, None, sensitivities)
    return loss, gradients, State(last, sensitivities)
'''
)
