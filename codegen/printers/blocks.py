"""How a BlockSweep prints: the sweep through a block, then one product per parameter that takes P to the next block."""

from __future__ import annotations

from codegen.blocks import Before, BlockSweep, Direct
from codegen.names import comment_text
from codegen.printers.sweep import SweepPrinter, SweepText
from codegen.sweep import RowAssign, RowBuffer, RowProduct, RowStatement, RowSum, RowView, Seed

HELPERS = {
    "_by_sequence": '''
def _by_sequence(values):
    """(depth, batch, units) as (batch, depth * units)."""
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)
''',
    "_by_row": '''
def _by_row(values):
    """(depth, batch, rows, units) as (batch, rows, depth * units)."""
    return values.transpose(1, 2, 0, 3).reshape(values.shape[1], values.shape[2], -1)
''',
    "_add_seed": '''
def _add_seed(target, row):
    """Add the unit matrix to the target's rows from ``row``."""
    units = target.shape[2]
    diagonal = target.reshape(len(target), -1)[:, row * units : (row + units) * units : units + 1]
    diagonal += 1.0
''',
    "_add_kept": '''
def _add_kept(jacobian, start, stop, shift):
    """In a block shorter than a delay, the end state still has units of the start state: ``shift`` places on."""
    if shift < stop - start:
        size = jacobian.shape[1]
        first, last = start * (size + 1) + shift, (stop - shift - 1) * (size + 1) + shift
        diagonal = jacobian.reshape(len(jacobian), -1)[:, first : last + 1 : size + 1]
        diagonal += 1.0
''',
    "_add_error": '''
def _add_error(gradient, carried, error):
    """Add P (batch, state, parameters) times the error (batch, state), summed over the batch."""
    total = {xp}.matmul(error[:, None, :], carried).sum(axis=0)
    gradient += total.reshape(gradient.shape[::-1]).T
''',
    "_add_products": '''
def _add_products(target, adjoint, source):
    """Add the sum over t of adjoint (T, batch, state, units) times source (T, batch, n), for each sequence."""
    T, batch = adjoint.shape[:2]
    product = {xp}.matmul(adjoint.reshape(T, batch, -1).transpose(1, 2, 0), source.transpose(1, 0, 2))
    target += product.reshape(target.shape)
''',
}

FRAME = '''
BLOCK_STEPS = {length}  # steps


def loss_and_gradient(params, inputs, targets, state=None, weights=None):
    """The loss and its gradients over a whole sequence, in blocks of BLOCK_STEPS steps: memory does not grow with T.

    ``inputs``: (T, batch, size) by name. ``targets`` by output: {targets}.
    ``state``: (depth, batch, size) by node, or a part of it. ``weights``: (T, batch); the loss is the
    weighted mean.
    """
    T, batch = _lengths(inputs)
    given = _checked_state(state, batch)
    _check_targets(targets, weights, T, batch)
    params = pack(params)
    if weights is None:
        equal = {xp}.zeros((min(BLOCK_STEPS, T), batch), DTYPE)
        equal[...] = 1.0 / (T * batch)
    else:
        weights = {xp}.asarray(weights)
        weights = (weights / weights.sum(dtype=np.float64)).astype(DTYPE)
    carried = _workspace(Carried, 0, batch).start(given)
    loss, gradient = 0.0, {xp}.zeros(VECTOR_SIZE, DTYPE)
    for first in range(0, T, BLOCK_STEPS):
        last = min(first + BLOCK_STEPS, T)
        part, gradients, given = _advance(
            params,
            {name: value[first:last] for name, value in inputs.items()},
            {name: value[first:last] for name, value in targets.items()},
            given,
            equal[: last - first] if weights is None else weights[first:last],
            carried,
        )
        loss += part
        gradient += gradients.vector
    return loss, Gradients(gradient)


class Block:
    """The block that is under way online: its inputs and targets so far, and the state and P at its start."""

    def __init__(self, given, batch, targets):
        self.given, self.carried, self.time = dict(given), Carried(0, batch).start(given), 0
        self.batch = batch
        self.inputs = {name: {xp}.zeros((BLOCK_STEPS, batch, size), DTYPE) for name, size in INPUTS.items()}
        self.targets = {}
        for name in LOSSES:
            value = {xp}.asarray(targets[name])
            self.targets[name] = {xp}.zeros((BLOCK_STEPS, *value.shape[1:]), value.dtype)

    def add(self, inputs, targets):
        """One step more; returns how many there are."""
        row = self.time % BLOCK_STEPS
        for name, values in self.inputs.items():
            values[row] = {xp}.asarray(inputs[name][0])
        for name, values in self.targets.items():
            values[row] = {xp}.asarray(targets[name][0])
        self.time += 1
        return row + 1


class State(dict):
    """The state by node after a step, and with it the block under way, which the next step changes in place."""

    def __init__(self, nodes, block):
        super().__init__(nodes)
        self.sensitivities = block
        self.time = block.time

    def copy(self):
        """A state of its own: what steps one leaves the other as it is."""
        return State({node: value.copy() for node, value in self.items()}, deepcopy(self.sensitivities))

    __copy__ = copy


def step_and_gradient(params, state, inputs, targets):
    """One time step online: its loss, the gradient or None, and the next state. Memory does not grow with time.

    The gradient comes with the last step of a block; it is that of the sum of the block's losses. ``state``: None at
    first, then what the last step returned. ``inputs``: (batch, size) by name. ``targets`` as for
    ``loss_and_gradient``, without the axis of time.
    """
    inputs = {name: value[None] for name, value in inputs.items()}
    targets = {name: value[None] for name, value in targets.items()}
    return advance(params, state, inputs, targets)


def advance(params, state, inputs, targets):
    """``step_and_gradient`` on arrays with an axis of time, T = 1."""
    _, batch = _lengths(inputs)
    given = _checked_state(state, batch)
    value = loss(params, inputs, targets, given)
    block = getattr(state, "sensitivities", None)
    if block is None:
        block = Block(given, batch, targets)
    elif state.time != block.time:
        raise ValueError(f"state: found that of step {state.time}; expected the last one, of step {block.time}")
    if block.add(inputs, targets) < BLOCK_STEPS:
        _, last = forward(params, inputs, given)
        return value, None, State(last, block)
    equal = {xp}.zeros((BLOCK_STEPS, batch), DTYPE)
    equal[...] = 1.0 / batch
    _, gradients, last = _advance(params, block.inputs, block.targets, block.given, equal, block.carried)
    block.given = last
    return value, gradients, State(last, block)
'''


class BlockText(SweepText):
    """Prints one sweep of a block."""

    def __init__(self, printer: SweepPrinter, sweep: BlockSweep) -> None:
        super().__init__(printer, sweep)
        self.block = sweep
        self.next: dict[int, str] = {}  # number of parameters -> scratch for P at the block's end
        self.names = {
            direct.name: printer.names.name(("carried", direct.name), f"P_{direct.name}") for direct in sweep.parameters
        }

    def histories(self) -> list[RowBuffer]:
        """The buffers that keep every step of the block."""
        return [buffer for buffer in self.sweep.buffers().values() if buffer.history]

    def present(self) -> list[RowBuffer]:
        """The buffers of one step alone."""
        return [buffer for buffer in self.sweep.buffers().values() if not buffer.history]

    def allocations(self) -> list[tuple[str, str]]:
        """(name, shape) of what the workspace holds."""
        size = self.block.size
        found = super().allocations()
        for buffer in self.histories():
            length = f"T + {2 * buffer.padding}" if buffer.padding else "T"
            found.append((self.name(buffer), f"({length}, batch, {buffer.rows}, {buffer.columns})"))
        found += [(name, f"(batch, {size}, {count})") for count, name in self.next.items()]
        if self.block.states:
            found += [("jacobian", f"(batch, {size}, {size})"), ("error", f"(batch, {size})")]
        return found

    def unpacked(self) -> list[str]:
        """Local names of what is carried and of what the workspace holds."""
        lines = [f"{name} = sensitivities.{name}" for name in self.names.values()]
        return lines + [f"{name} = work.{name}" for name, _ in self.allocations()]

    def carried_class(self, xp: str, signs: dict[str, int]) -> list[str]:
        """The class whose instances hold P from block to block."""
        size = self.block.size
        lines = [
            "class Carried:",
            '    """Of each sequence the derivative of the joint state by the parameters, at the start of a block:',
            "    (batch, state, parameters), a matrix transposed. The joint state has, one after the other:",
            "",
        ]
        for state in self.block.states:
            end = state.start + state.depth * state.units
            moment = "" if state.depth == 1 else f", its last {state.depth} values, oldest first"
            lines.append(f"    {comment_text(state.node)}: {state.start} to {end - 1}{moment}")
        lines += ['    """', "", "    def __init__(self, _, batch):"]
        for direct in self.block.parameters:
            name = self.names[direct.name]
            lines.append(f"        self.{name} = {xp}.zeros((batch, {size}, {direct.count}), DTYPE)")
        lines += [
            "        self.nbytes = sum(buffer.nbytes for buffer in self.__dict__.values())",
            "",
            "    def start(self, given):",
            '        """Before t = 1; ``given``: the state that is given, by node."""',
        ]
        for direct in self.block.parameters:
            name = self.names[direct.name]
            lines.append(f"        self.{name}[...] = 0.0")
            for state in self.block.states:
                if state.initial == direct.name:
                    end = state.start + state.depth * state.units
                    lines.append(f"        if {state.node!r} not in given:")
                    lines.append(f"            for first in range({state.start}, {end}, {state.units}):")
                    unit = f"{xp}.eye({state.units}, dtype=DTYPE)"
                    lines.append(f"                self.{name}[:, first : first + {state.units}] = {unit}")
        return [*lines, "        return self"]

    def after(self) -> list[str]:
        """The lines after the loop: ds(T)/ds(0), dL/ds(0), then P."""
        if not self.block.states:
            return []
        lines = ["# ds(T)/ds(0) and dL/ds(0)"]
        for state in self.block.states:
            lines += self._before(state)
        if self.block.parameters:
            lines.append("# gradient += P dL/ds(0), then P = ds(T)/ds(0) P + what happened in the block")
            self.printer.ufuncs.add("matmul")
        for direct in self.block.parameters:
            lines += self._direct(direct)
        return lines

    def _before(self, state: Before) -> list[str]:
        end = state.start + state.depth * state.units
        columns = f"{state.start}:{end}"
        lines = [f"jacobian[:, :, {columns}] = 0.0"]
        if state.body:
            self.printer.helpers.add("_by_row")
            summands = " + ".join(self._ahead(statement, state.depth) for statement in state.body)
            lines = [f"jacobian[:, :, {columns}] = _by_row({summands})"]
        if state.depth > 1:
            self.printer.helpers.add("_add_kept")
            lines.append(f"_add_kept(jacobian, {state.start}, {end}, T * {state.units})")
        if state.error is not None:
            self.printer.helpers.add("_by_sequence")
            lines.append(f"error[:, {columns}] = _by_sequence({self.printer.view(state.error)})")
        return lines

    def _ahead(self, statement: RowStatement, depth: int) -> str:
        """What a statement is for t = 1-depth..0."""

        def window(view: RowView) -> str:
            first = view.buffer.padding - depth - view.delay
            return f"{self.name(view.buffer)}[{first}:{first + depth}]"

        if isinstance(statement, RowProduct):
            assert not isinstance(statement.right, RowView)
            self.printer.ufuncs.add("matmul")
            return f"matmul({window(statement.left)}, {self.printer.bind_view(statement.right)})"
        if isinstance(statement, RowSum):
            return f"{window(statement.source)}.sum(axis=-1, keepdims=True)"
        assert isinstance(statement, RowAssign)
        operands = {symbol: window(view) for symbol, view in statement.operands if isinstance(view, RowView)}
        return self._text(statement.expression, operands)

    def _direct(self, direct: Direct) -> list[str]:
        name = self.names[direct.name]
        if direct.count not in self.next:
            self.next[direct.count] = self.printer.names.name(("next", direct.count), f"next_{len(self.next) + 1}")
        after = self.next[direct.count]
        self.printer.helpers.add("_add_error")
        lines = [f"_add_error({self.gradient_name(direct.gradient)}, {name}, error)"]
        lines.append(f"matmul(jacobian, {name}, out={after})")
        for rows, source in direct.pieces:
            first = rows.padding or ""
            last = f"T + {rows.padding}" if rows.padding else "T"
            adjoint = f"{self.name(rows)}[{first}:{last}]".replace(":T +", " : T +")
            if source is None:
                lines.append(f"{after} += {adjoint}.sum(axis=0)")
            else:
                self.printer.helpers.add("_add_products")
                lines.append(f"_add_products({after}, {adjoint}, {self.printer.view(source)})")
        return [*lines, f"{name}[...] = {after}"]

    def _statement(self, statement: RowStatement) -> list[str]:
        if isinstance(statement, Seed):
            self.printer.helpers.add("_add_seed")
            units = statement.target.buffer.columns
            shift = f" - (T - t) * {units}" if statement.depth > 1 else ""
            target = self._row(statement.target)
            return [f"if t > T - {statement.depth}:", f"    _add_seed({target}, {statement.last_row}{shift})"]
        return super()._statement(statement)

    def _row(self, view: RowView) -> str:
        if not view.buffer.history:
            return super()._row(view)
        moment = "t" if view.delay == 0 else f"t_plus_{-view.delay}"
        name = self.printer.names.name(("slot", view.buffer.name, view.delay), f"{view.buffer.name}_{moment}")
        shift = view.buffer.padding - 1 - view.delay
        index = f"t {'+' if shift > 0 else '-'} {abs(shift)}" if shift else "t"
        self.slots[name] = f"{self.name(view.buffer)}[{index}]"
        return name
