"""Processes of competitors: each on the same core(s), with the same number of threads, set up and asked over a pipe."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RNNGRAPH_THREADS")
CLOSING_SECONDS = 5


class UnavailableError(Exception):
    """Raised by a setup whose package is not installed; the competitor is left out and the table says why."""


class CompetitorError(Exception):
    """A competitor raised an error that it should not have, or its process died: what happened, the competitor."""


class Task(NamedTuple):
    """What is timed, ``run``, and how its result is read as NumPy arrays for the comparison, ``read`` (not timed).

    ``choice`` names the setting that was found to be the quickest, where a setup tries several.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Sequence[Any]]
    choice: str = ""


@dataclass(frozen=True)
class Competitor:
    """``setup`` is a function from a case to its tasks, found by pickle; it imports what it measures.

    ``process`` names the process that it runs in: competitors of one package may share one. Default: one of its own.
    """

    name: str
    setup: Callable[[Any], Mapping[str, Task]]
    process: str = ""

    @property
    def runs_in(self) -> str:
        """The name of its process."""
        return self.process or self.name


def available_cores() -> list[int]:
    """The cores this process may use, in order; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def inherited_threads(threads: int) -> Iterator[None]:
    """Processes started inside use ``threads`` threads, and one core if that is 1.

    Set from outside because BLAS libraries read both once, when they are loaded.
    """
    cores, saved = available_cores(), {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if threads == 1 and cores:
        os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def given_threads() -> int:
    """How many threads the present process was given."""
    return int(os.environ.get(THREAD_VARIABLES[1]) or os.cpu_count() or 1)


def in_fresh_process(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own; its exceptions are raised here."""
    context = multiprocessing.get_context("spawn")
    with inherited_threads(threads), ProcessPoolExecutor(1, context, initializer=_end_at_interrupt) as pool:
        return pool.submit(function, *arguments).result()


class Processes:
    """Processes by name, each started when it is first asked and kept until the end of the ``with``.

    What is asked: ("setup", competitor, case), which answers with the names and choices of the tasks and lays them out
    in place of the competitor's former ones; ("check", competitor's name, task), with its result; and
    ("time", competitor's name, task, seconds), with the seconds that each call took.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._connections: dict[str, Connection] = {}
        self._processes: dict[str, Any] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*self._processes)

    def ask(self, name: str, *request: Any) -> Any:
        """The answer of a process. Raises what its setup raised if that is UnavailableError, else CompetitorError."""
        asked = request[1].name if isinstance(request[1], Competitor) else request[1]
        if name not in self._processes:
            self._start(name)
        try:
            self._connections[name].send(request)
            status, answer = self._connections[name].recv()
        except (EOFError, OSError) as error:
            self.stop(name)
            raise CompetitorError(f"the process of {asked} died at {request[0]!r}", asked) from error
        if status == "unavailable":
            raise UnavailableError(answer)
        if status == "failed":
            raise CompetitorError(f"{asked}, {request[0]}: {answer}", asked)
        return answer

    def stop(self, *names: str) -> None:
        """Ends processes, all within CLOSING_SECONDS; the next question starts one anew."""
        ending = [self._processes.pop(name) for name in names]
        for connection in [self._connections.pop(name) for name in names]:
            with suppress(OSError):  # it may be gone already
                connection.send(None)
            connection.close()
        stop = time.monotonic() + CLOSING_SECONDS
        for process in ending:
            process.join(timeout=max(0.0, stop - time.monotonic()))
            if process.is_alive():
                process.terminate()
                process.join()

    def _start(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with inherited_threads(self.threads):
            process.start()
        theirs.close()  # so that recv raises EOFError when the process dies
        self._connections[name], self._processes[name] = ours, process


def _end_at_interrupt() -> None:
    """Ctrl-C ends this process at once and without a word: the command itself says that it was stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _serve(connection: Connection) -> None:
    """A competitor's process: answers until told None."""
    _end_at_interrupt()
    tasks: dict[str, Mapping[str, Task]] = {}
    while (request := connection.recv()) is not None:
        try:
            connection.send(("done", _answer(tasks, *request)))
        except UnavailableError as error:
            connection.send(("unavailable", str(error)))
        except Exception:
            connection.send(("failed", traceback.format_exc()))


def _answer(tasks: dict[str, Mapping[str, Task]], question: str, *request: Any) -> Any:
    if question == "setup":
        competitor, case = request
        tasks.pop(competitor.name, None)  # gives its arrays back first
        tasks[competitor.name] = competitor.setup(case)
        return {name: task.choice for name, task in tasks[competitor.name].items()}
    task = tasks[request[0]][request[1]]
    if question == "check":
        return [np.array(part, np.float64) for part in task.read(task.run())]
    return _times(task.run, request[2])


def _times(run: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, for about ``seconds``. The first brings caches back and counts only if nothing follows."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > seconds:
        return [first]
    stop = time.perf_counter() + seconds
    times: list[float] = []
    while not times or time.perf_counter() < stop:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
