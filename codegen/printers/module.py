"""The frame of an emitted Python module: docstring, tables, constants, workspaces, signatures, loops.

Statements are left to subclasses, one per target.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from codegen.blocks import BlockSweep
from codegen.ir import ONCE, Buffer, Entrywise, Fill, Function, Load, Loop, Staggered, Statement, Step, View, views_of
from codegen.names import Namer, comment_text, words_of
from codegen.pattern import Pattern
from codegen.printers import blocks, checkpoints, header, hosts, recurrences, stacks, support, sweep, windows
from codegen.printers.loops import LoopText, loop_lines, staggered_lines
from codegen.printers.signatures import signature, targets_text
from codegen.printers.sparse import patterns_text
from codegen.printers.tables import UNPACKED, packs, table_lines
from codegen.printers.views import ViewText, bound_text, choice_lines, wrapped
from codegen.program import Program
from codegen.sweep import Sweep

VIEW_BYTES = 200  # what a view of an array takes, about


class ModulePrinter(abc.ABC):
    """Prints one program as a Python module. ``xp`` is the array module's name in it."""

    xp: str
    imports: tuple[str, ...]
    needs: str
    loop_note = ""  # what a reader should know of the calls in a loop
    product_size = 0  # multiplications from which a product per sequence is not cut into blocks of rows; 0: never cut
    held_bytes = "1 << 29"  # what the workspaces of a thread may take together

    def __init__(self, program: Program) -> None:
        self.program = program
        self.helpers: set[str] = set()
        self.patterns: dict[Pattern, str] = {}
        self.constants: dict[str, Buffer] = {}
        self.constant_names: dict[str, str] = {}
        self.module_names = Namer(support.RESERVED)
        self.frame = ""  # the functions around one that carries sensitivities
        self._start(Function("", ()))

    # What a target decides.

    @abc.abstractmethod
    def prepare(self, function: Function) -> Function:
        """The passes that this target needs."""

    @abc.abstractmethod
    def simple(self, statement: Statement) -> list[str]:
        """The lines of a statement that is not a loop, without indentation."""

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """The attributes of the workspace that hold a buffer: (name, expression)."""
        return [(self.views.buffer(buffer), self.array(buffer))]

    def shape(self, buffer: Buffer) -> str:
        """The shape of the array that holds a buffer."""
        return {
            "sequence": f"({bound_text(buffer.length)}, batch, {buffer.columns})",
            "step": f"({f'min({steps}, T), ' if (steps := buffer.length.constant) > 1 else ''}batch, {buffer.columns})",
            "matrix": f"({buffer.rows}, {buffer.columns})",
            "vector": f"({buffer.columns},)",
            "history": f"({bound_text(buffer.length)}, {buffer.columns}, batch)",
        }[buffer.shape]

    def array(self, buffer: Buffer) -> str:
        """The expression that makes the array: in memory of its own, or in that of its host."""
        if buffer.host is None:
            return f"{self.xp}.zeros({self.shape(buffer)}, DTYPE)"
        host = self.function.buffers()[buffer.host.name]
        name = "_up_to_end" if buffer.host.at_end else "_from_start"
        self.helpers.add(name)
        return f"{name}(self.{self.views.buffer(host)}, {self.shape(buffer)})"

    def preamble(self) -> list[str]:
        """Lines before a function's first statement."""
        return []

    def in_workspace(self, buffer: Buffer) -> bool:
        """Whether the buffer is made by the workspace."""
        return buffer.storage == "workspace" and buffer.shape != "scalar"

    def extra_parts(self) -> list[str]:
        """Text between the support functions and the emitted functions."""
        return []

    # The module.

    def source(self) -> str:
        """The whole module."""
        functions = [self._function(self.prepare(function)) for function in self.program.functions]
        docstring = header.docstring(self.program, self.needs)
        constants = header.constants(
            [(self.constant_names[name], each) for name, each in self.constants.items()], self.xp
        )
        tables, patterns = table_lines(self.program), patterns_text(self.xp, self.patterns)
        packed = packs([*tables, patterns])
        tables = [*UNPACKED.splitlines(), *tables] if packed else tables
        imports = header.imports(self.imports, packed, bool(self.frame))
        text = "\n".join([docstring, *imports, *tables, *constants]) + "\n"
        for template in support.templates(self.xp, bool(self.program.layers)):
            ahead = support.AHEAD_STATES if self.program.ahead else ""
            template = template.replace("{held_bytes}", self.held_bytes).replace("{ahead}", ahead)
            text += "\n" + template.replace("{xp}", self.xp)
        text += patterns
        parts = (support, hosts, sweep, blocks, stacks, recurrences)
        helpers = {name: text for part in parts for name, text in part.HELPERS.items()}
        for name in sorted(self.helpers):
            text += "\n" + helpers[name].replace("{xp}", self.xp)
        for part in self.extra_parts():
            text += "\n" + part
        for lines in functions:
            text += "\n\n" + "\n".join(lines) + "\n"
        if self.frame:
            text += "\n" + self.frame.replace("{targets}", targets_text(self.program)).replace("{xp}", self.xp)
        if self.program.windows is not None:
            text += "\n" + windows.window_loop(self.xp, *self.program.windows, bool(self.program.layers))
        if self.program.checkpoint is not None:
            text += "\n" + checkpoints.checkpoint_loop(self.xp, self.program)
        with_forward = any(function.name == "forward" for function in self.program.functions)
        return f"{text}\n{support.STEP}" if with_forward and not self.program.ahead else text

    def pattern(self, pattern: Pattern) -> str:
        """The name of a pattern in the module."""
        if pattern not in self.patterns:
            self.patterns[pattern] = self.module_names.name(("pattern", pattern), f"SPARSE_{pattern.name.upper()}")
        return self.patterns[pattern]

    # Functions.

    def _start(self, function: Function) -> None:
        self.function = function
        self.names = Namer(support.RESERVED, self.module_names)
        self.views = ViewText(self.names, self.constant_names)
        self.loops: list[tuple[dict[str, str], bool]] = []
        self.entries: dict[str, str] | None = None
        self.invariants: dict[str, str] = {}
        self.ufuncs: set[str] = set()
        self.once: list[str] = []
        self.swept: sweep.SweepText | None = None
        self.swept_added = False
        self.in_blocks = any(isinstance(statement, BlockSweep) for statement in function.body)
        for buffer in function.buffers().values():
            if buffer.storage == "constant":
                self.constants[buffer.name] = buffer
                key = ("constant", buffer.name)
                self.constant_names[buffer.name] = self.module_names.name(key, f"fixed_{buffer.name}")

    def _function(self, function: Function) -> list[str]:
        self._start(function)
        title = f"{function.name.title().replace('_', '')}Workspace"
        self.workspace = self.module_names.name(("workspace", function.name), title)
        body = self.lines(function.body)
        head = self._workspace_class()
        if self.swept is not None:
            self.frame = sweep.JACOBIAN if function.name == "jacobian" else sweep.ONLINE
            if isinstance(self.swept, blocks.BlockText):
                self.frame = blocks.FRAME.replace("{length}", str(self.swept.block.length))
            loads = [statement for statement in function.body if isinstance(statement, Load)]
            signs = {load.name: self.program.noise_seed for load in loads if load.what == "noise"}
            head = [*self.swept.carried_class(self.xp, signs), "", "", *head]
        return [
            *head,
            "",
            "",
            *signature(self.program, self.function.name, self.swept is not None),
            *self._unpack(body),
            *body,
            *self._result(),
        ]

    @property
    def takes_targets(self) -> bool:
        """Whether the function has a loss."""
        return self.function.name not in ("forward", "stream", "jacobian")

    @property
    def _window(self) -> bool:
        """Whether the function runs on a part of a sequence."""
        return self.function.name in ("window_loss", "window_gradient")

    def _unpack(self, body: Sequence[str]) -> list[str]:
        lines = []
        if self.program.layers:
            lines += ["    inputs = _joined(inputs, INPUT_SIZES)"]
            lines += ["    targets = _joined(targets, TARGET_SIZES)"] if self.takes_targets else []
        lines += ["    T, batch = _lengths(inputs)", f"    work = _workspace({self.workspace}, T, batch)"]
        if self.swept is None:
            lines += ["    given = _checked_state(state, batch)"]
        lines += ["    vector = pack(params).vector"]
        if self.function.name == "hessian_vector_product":
            lines += ["    direction = pack(direction).vector", *self._empty_gradient()]
        if self.function.name in ("loss", "loss_and_gradient", "hessian_vector_product") and not self.in_blocks:
            lines += ["    _check_targets(targets, weights, T, batch)"]
        else:
            lines += [f"    outputs, last = {{}}, {self._no_state}"]
        if self.function.name == "jacobian":
            zeros = f"{self.xp}.zeros((T, batch, size, {self._gradient_size}), DTYPE)"
            lines += [f"    jacobians = {{name: {zeros} for name, size in OUTPUTS.items()}}"]
            lines += ["    earliest = sensitivities.time + 1"] if "earliest" in words_of(body) else []
        if self._window:
            lines += [f"    last = {self._no_state}"]
        if self.function.name in ("loss_and_gradient", "window_gradient"):
            if "parameters" in self.program.wrt:
                lines += self._empty_gradient()
            if self.swept is not None:
                lines += ["    last = {}", *self.swept.empty_sums(self.xp, self._gradient_size)]
            zeros = f"{self.xp}.zeros"
            if "inputs" in self.program.wrt:
                lines += [
                    f"    input_gradients = {{name: {zeros}((T, batch, size), DTYPE) for name, size in INPUTS.items()}}"
                ]
            if "state" in self.program.wrt or self.program.checkpoint is not None:
                lines += ["    state_gradients = {"]
                lines += [
                    f"        node: {zeros}((depth, batch, size), DTYPE) for node, (depth, size, _) in STATES.items()"
                ]
                lines += ["    }"]
        more = () if self.swept is None else (*self.swept.unpacked(), *self.swept.summed(self.xp))
        lines += self._local_buffers([*more, *body])
        return [*lines, *(f"    {line}" for line in more), *self.preamble()]

    @property
    def _no_state(self) -> str:
        """A state that nothing has been put into."""
        return "UnitStates()" if self.program.layers else "{}"

    def _local_buffers(self, body: Sequence[str]) -> list[str]:
        """Local names of the buffers of the workspace and of the parameters' blocks, those that the body uses."""
        lines = []
        words = words_of(body)
        for buffer in self.function.buffers().values():
            name = self.views.buffer(buffer)
            if self.in_workspace(buffer):
                names = [attribute for attribute, _ in self.allocation(buffer) if attribute in words]
                lines += [f"    {attribute} = work.{attribute}" for attribute in names]
            elif name in words and buffer.storage in ("parameter", "direction", "gradient"):
                vector = "vector" if buffer.storage == "parameter" else buffer.storage
                stop = buffer.offset + buffer.rows * buffer.columns
                if buffer.storage == "parameter" and buffer.note:
                    lines.append(f"    # {comment_text(buffer.note)}")
                lines.append(f"    {name} = {vector}[{buffer.offset}:{stop}].reshape({buffer.rows}, {buffer.columns})")
        return lines

    def _result(self) -> list[str]:
        if self.function.name == "forward":  # that looks ahead
            return ["    return outputs, last"]
        if self.function.name == "loss":
            return ["    return loss"]
        if self._window and (self.function.name == "window_loss" or self.program.checkpoint is None):
            gradient = f", {self._own_gradient}" if self.function.name == "window_gradient" else ""
            return [f"    return loss{gradient}, last"]
        if self.function.name == "jacobian":
            return ["    return outputs, jacobians, last"]
        if self.swept is not None:
            return [*self._add_swept(), f"    return loss, Gradients({self._own_gradient}), last"]
        if self.function.name == "hessian_vector_product":
            return [f"    return Gradients({self._own_gradient})"]
        asked = ["inputs" in self.program.wrt, "state" in self.program.wrt or self.function.name == "window_gradient"]
        extra = ", input_gradients" if asked[0] else ", None" if asked[1] else ""
        gradient = self._own_gradient if "parameters" in self.program.wrt else "None"
        return [f"    return loss, Gradients({gradient}{extra}{', state_gradients' if asked[1] else ''})"]

    def _empty_gradient(self) -> list[str]:
        behind = (
            ["    # behind the parameters' gradients: those of effective weights"] if self.program.inner_size else []
        )
        return [*behind, f"    gradient = {self.xp}.empty({self._gradient_size}, DTYPE)"]

    @property
    def _own_gradient(self) -> str:
        """The gradient by the parameters; behind it lies that by effective weights."""
        return "gradient[:VECTOR_SIZE]" if self.program.inner_size else "gradient"

    @property
    def _gradient_size(self) -> str:
        """How many numbers the gradient has, that by effective weights included."""
        return f"VECTOR_SIZE + {self.program.inner_size}" if self.program.inner_size else "VECTOR_SIZE"

    def _workspace_class(self) -> list[str]:
        lines = [
            f"class {self.workspace}:",
            f'    """Buffers and views of ``{self.function.name}`` for one T and batch."""',
            "",
            "    def __init__(self, T, batch):",
            *self._allocations(),
            "        self.nbytes = sum(buffer.nbytes for buffer in self.__dict__.values())",
            *self._hosted(),
        ]
        views = sum(len(entries) for entries, _ in self.loops)
        if views:
            note = "bytes of the Python objects of the views below, about"
            lines.append(f"        self.nbytes += {views * VIEW_BYTES} * T  # {note}")
        return [*lines, *self._cut_views()]

    def _allocations(self, copied: str = ONCE) -> list[str]:
        """The buffers of the workspace that have memory of their own; ``copied`` says when those that copy parameters
        are written."""
        lines = []
        for buffer in self.function.buffers().values():
            if self.in_workspace(buffer) and buffer.host is None:
                lines += self._allocation_lines(buffer, copied)
        if self.swept is not None:
            for name, shape in self.swept.allocations():
                lines.append(f"        self.{name} = {self.xp}.zeros({shape}, DTYPE)")
        return lines

    def _allocation_lines(self, buffer: Buffer, copied: str) -> list[str]:
        lines = []
        note = f"  # {comment_text(buffer.note)}" if buffer.note and buffer.note != buffer.name else ""
        note = note.replace(ONCE, copied)
        for attribute, expression in self.allocation(buffer):
            lines += choice_lines(f"self.{attribute} = ", expression, note, 8)
            note = ""
        return lines

    def _hosted(self) -> list[str]:
        """The buffers that lie in the memory of others."""
        hosted = [each for each in self.function.buffers().values() if each.host is not None]
        note = ["        # values that take the place of others, which are not needed any more"] if hosted else []
        return [*note, *(line for each in hosted for line in self._allocation_lines(each, ONCE))]

    def _cut_views(self) -> list[str]:
        """What is written once, and the views of the steps of each loop."""
        lines = [f"        {line}" for line in self.once]
        for number, (entries, backward) in enumerate(self.loops, start=1):
            lines += [f"        self.{self._steps(number)} = list(", "            zip("]
            for name, expression in entries.items():
                lines += choice_lines("", expression, f",  # {name}", 16)
            lines += ["                strict=True,", "            )", f"        ){'[::-1]' if backward else ''}"]
        return lines

    # Statements.

    def lines(self, statements: Sequence[Statement]) -> list[str]:
        """The lines of statements outside of loops."""
        return [line for statement in statements for line in self._statement(statement)]

    def _statement(self, statement: Statement) -> list[str]:
        if isinstance(statement, Loop | Staggered):
            note = self._note(f"{statement.note}{self.loop_note}", "    ")
            if isinstance(statement, Loop):
                return note + loop_lines(self._loop(statement, in_order=True))
            return note + staggered_lines(statement, [self._loop(part, in_order=False) for part in statement.parts])
        if isinstance(statement, Sweep):
            return self._note(statement.note, "    ") + self._sweep(statement)
        lines = self._note(statement.note, "    ")
        if isinstance(statement, Entrywise) and any(view.buffer.storage == "gradient" for view in views_of(statement)):
            lines = self._add_swept() + lines
        if isinstance(statement, Fill) and statement.once:
            self.once += [f"self.{line}" for line in self.simple(statement)]
            return []
        return lines + ["    " + line for line in self.simple(statement)]

    def _add_swept(self) -> list[str]:
        """What a sweep added up joins the gradient once, before the gradient goes back through effective weights."""
        if self.swept is None or not self.swept.gradients or self.swept_added:
            return []
        self.swept_added = True
        return ["    gradient += swept"]

    def _note(self, note: str, indent: str) -> list[str]:
        """The comment above a statement: one equation a line."""
        return [f"{indent}# {comment_text(line)}" for line in note.split("; ")] if note else []

    def _loop(self, loop: Loop, in_order: bool) -> LoopText:
        """A loop's text; its views are cut in the order in which the steps run, or, not ``in_order``, in that of t."""
        self.entries, self.invariants = {}, {}
        body = [line for inner in loop.body for line in [*self._note(inner.note, ""), *self.simple(inner)]]
        entries, self.entries = self.entries, None
        before = [f"    {name} = {expression}" for name, expression in self.invariants.items()]
        self.loops.append((entries, in_order and loop.backward))
        steps = self._steps(len(self.loops))
        if self.views.stretched:  # views of several steps go beyond T at times, to rows that are not read
            steps += "[:T]" if loop.steps == 1 else f"[: -(-T // {loop.steps})]"
        return LoopText(before, list(entries), steps, body)

    def _sweep(self, statement: Sweep) -> list[str]:
        """The loop of a sweep; t goes on from call to call, so that each value finds its slot."""
        self.entries, self.invariants = {}, {}
        self.swept = self.sweep_text(statement)
        backward = isinstance(self.swept, blocks.BlockText)
        body = ["        " + line for line in self.swept.body()]
        entries, self.entries = self.entries, None
        before = [f"    {name} = {expression}" for name, expression in self.invariants.items()]
        after = ["    sensitivities.time += T"]
        moments = "range(sensitivities.time + 1, sensitivities.time + 1 + T)"
        if isinstance(self.swept, blocks.BlockText):
            after, moments = [f"    {line}" for line in self.swept.after()], "range(T, 0, -1)"
        if not body:
            return [*before, *after]
        if not entries:
            return [*before, f"    for t in {moments}:", *body, *after]
        self.loops.append((entries, backward))
        steps = self._steps(len(self.loops))
        names = f"{', '.join(entries)}{',' if len(entries) == 1 else ''}"
        numbered = (
            f"zip({moments}, work.{steps}, strict=True)"
            if backward
            else f"enumerate(work.{steps}, sensitivities.time + 1)"
        )
        head = [f"    for t, ({names}) in {numbered}:"]
        if len(head[0]) > 110:
            head = ["    for t, (", *wrapped(list(entries), 8), f"    ) in {numbered}:"]
        return [*before, *head, *body, *after]

    @abc.abstractmethod
    def sweep_text(self, statement: Sweep) -> sweep.SweepText:
        """The printer of a sweep's statements."""

    def _steps(self, number: int) -> str:
        """The workspace's attribute that holds the views of a loop's steps."""
        return self.names.name(("loop", number), f"steps_{number}")

    def step_view(self, view: View, shown: int | str | None, form: str = "{}") -> str:
        """The name of a step's view inside the current loop; ``form`` is what becomes of the view of all steps."""
        assert self.entries is not None, "a step outside a loop"
        name = self.views.step_name(view, shown)
        if view.steps > 1:
            self.entries.setdefault(name, self._several_steps(view))
            return name
        assert isinstance(view.time, Step), "a step of what is no sequence"
        wide = shown if isinstance(shown, int) else None
        self.entries.setdefault(name, self.by_step(form.replace("{}", self.views.whole_step(view, wide)), view.time))
        return name

    def _several_steps(self, view: View) -> str:
        """What a loop of several steps at once goes through: the rows of each turn, time and batch as one axis."""
        self.helpers.add("_in_turns")
        if isinstance(view.time, Step):
            return f"_in_turns({self.views.whole_step(view, None)}, {view.steps})"
        return f"_in_turns({'self.' + self.views.text(view)}, {view.steps}, T)"

    def by_step(self, text: str, time: Step) -> str:
        """What a loop goes through, given the view of all its steps; ``time``: where the first of them lies."""
        return text

    def bind(self, expression: str, wanted: str) -> str:
        """Inside a loop, a name that is bound to ``expression`` before the loop; outside, the expression itself."""
        if self.entries is None or expression.isidentifier():
            return expression
        name = self.names.name(("bound", len(self.loops), expression), wanted)
        self.invariants.setdefault(name, expression)
        return name
