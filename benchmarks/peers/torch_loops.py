"""Cells that torch does not have, as a loop over t: eager, and in chunks of steps by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.loops import named_gradient, packed
from benchmarks.peers.problems import GRADIENT, LONGEST, Case, in_order, make
from benchmarks.peers.torch_layers import import_torch
from benchmarks.processes import Task, UnavailableError

# Time steps that torch.compile sees at once. 5 took 0.6 of the time of 1, and 20 as long as 5, but twice to compile.
LONGEST_CHUNK = 5


def delayed_chunk(torch: Any) -> Callable[..., Any]:
    """Some steps of the delayed cell: (sums, the last five outputs, R15, R2) -> outputs, the last five.

    R1 and R5 apart, and sums cut once: with h(t-1) and h(t-5) side by side at each step eager torch takes 1.2 to 1.4
    times as long.
    """

    def chunk(sums: Any, past: Any, R15: Any, R2: Any) -> Any:
        outputs, units = [], R2.shape[0]
        R1, R5 = R15.split(units)
        for sum_h, sum_g in zip(*(part.unbind(0) for part in sums.split(units, 2)), strict=True):
            s = torch.addmm(torch.addmm(sum_h, past[4], R1), past[0], R5)
            h = torch.tanh(s) * torch.sigmoid(torch.addmm(sum_g, past[3], R2))
            past = (*past[1:], h)
            outputs.append(h)
        return outputs, past

    return chunk


def narx_chunk(torch: Any) -> Callable[..., Any]:
    """Some steps of the NARX network: (sums, y(t-1), ..., y(t-10) side by side, R, V, b_y) -> outputs, the last ten."""

    def chunk(sums: Any, past: Any, R: Any, V: Any, b_y: Any) -> Any:
        outputs = []
        for sum_t in sums.unbind(0):
            y = torch.addmm(b_y, torch.tanh(torch.addmm(sum_t, past, R)), V)
            past = torch.cat((y, past[:, :-1]), 1)
            outputs.append(y)
        return outputs, past

    return chunk


def lstm_chunk(torch: Any) -> Callable[..., Any]:
    """Some steps of the LSTM: (sums, (h, c), R) -> outputs, (h, c)."""

    def chunk(sums: Any, past: Any, R: Any) -> Any:
        outputs, (h, c) = [], past
        for sum_t in sums.unbind(0):
            i, f, z, o = torch.addmm(sum_t, h, R).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return outputs, (h, c)

    return chunk


CHUNK_OF = {"delayed": delayed_chunk, "narx": narx_chunk, "lstm": lstm_chunk}
PAST = {"delayed": 5, "lstm": 2}  # how many arrays (B, H) the loop carries


def loop_task(torch: Any, case: Case, chunk: Callable[..., Any], steps: int) -> Task:
    """Loss and gradient by a loop over chunks of ``steps`` time steps."""
    problem = make(case)
    array, values = packed(case, problem)
    rows, target = torch.from_numpy(array).flatten(0, 1), torch.from_numpy(problem.target)
    leaves = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in values.items()}
    recurrent = [leaf for name, leaf in leaves.items() if name not in ("W", "b")]

    def first_past() -> Any:
        # With a gradient as later pasts have it: torch.compile would otherwise compile the first chunk apart.
        if case.network == "narx":
            return torch.zeros(case.B, LONGEST, requires_grad=True)
        return tuple(torch.zeros(case.B, case.H, requires_grad=True) for _ in range(PAST[case.network]))

    def loss_and_gradient() -> Any:
        for leaf in leaves.values():
            leaf.grad = None
        sums = torch.addmm(leaves["b"], rows, leaves["W"]).view(case.T, case.B, -1)
        outputs, past = [], first_past()
        for part in sums.split(steps):
            found, past = chunk(part, past, *recurrent)
            outputs += found
        loss = torch.nn.functional.mse_loss(torch.stack(outputs), target)
        loss.backward()
        return loss

    def read(loss: Any) -> list[Any]:
        return in_order(case, loss.item(), named_gradient(case, {n: leaf.grad.numpy() for n, leaf in leaves.items()}))

    return Task(loss_and_gradient, read, f"chunks of {steps}")


def eager(case: Case) -> dict[str, Task]:
    """The loop, called operator by operator, products packed and taken out of the loop as far as they go."""
    torch = import_torch()
    return {GRADIENT: loop_task(torch, case, CHUNK_OF[case.network](torch), case.T)._replace(choice="")}


def as_written(case: Case) -> dict[str, Task]:
    """The delayed cell as its formula reads: every product by itself at every step, nothing packed or hoisted."""
    torch = import_torch()
    problem = make(case)
    x, target = torch.from_numpy(problem.x), torch.from_numpy(problem.target)
    leaves = {name: torch.from_numpy(value).requires_grad_() for name, value in problem.parameters.items()}

    def loss_and_gradient() -> Any:
        for leaf in leaves.values():
            leaf.grad = None
        p, zero = leaves, torch.zeros(case.B, case.H)
        h = [zero] * 5
        for t in range(case.T):
            s = x[t] @ p["W"] + h[-1] @ p["R1"] + h[-5] @ p["R5"] + p["b_h"]
            h.append(torch.tanh(s) * torch.sigmoid(x[t] @ p["G"] + h[-2] @ p["R2"] + p["b_g"]))
        loss = torch.nn.functional.mse_loss(torch.stack(h[5:]), target)
        loss.backward()
        return loss

    def read(loss: Any) -> list[Any]:
        return in_order(case, loss.item(), {name: leaf.grad.numpy() for name, leaf in leaves.items()})

    return {GRADIENT: Task(loss_and_gradient, read)}


def compiled(case: Case) -> dict[str, Task]:
    """The loop with its chunks compiled: all of one length, which divides T."""
    torch = import_torch()
    torch._dynamo.reset()
    steps = max(steps for steps in range(1, LONGEST_CHUNK + 1) if case.T % steps == 0)
    task = loop_task(torch, case, torch.compile(CHUNK_OF[case.network](torch), dynamic=False), steps)
    first_run(task)
    return {GRADIENT: task}


def first_run(task: Task) -> Any:
    """The result of the call that compiles; UnavailableError where that fails, as without a C++ compiler."""
    try:
        return task.run()
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise UnavailableError(f"failed: {type(error).__name__}: {message}") from error
