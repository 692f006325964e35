"""Competitors for the tests of benchmarks/peers: right, wrong, absent and failing. They load nothing but numpy."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.peers.problems import FORWARD, GRADIENT, Case, make
from benchmarks.processes import Task, UnavailableError


def double(case: Case) -> dict[str, Task]:
    x = make(case).x
    return {FORWARD: Task(lambda: 2 * x, lambda y: [y])}


def absent(case: Case) -> dict[str, Task]:
    raise UnavailableError("it is not installed")


def failing(case: Case) -> dict[str, Task]:
    raise ZeroDivisionError("a mistake")


def dying(case: Case) -> dict[str, Task]:
    return {FORWARD: Task(lambda: os._exit(3), lambda _: [])}


def wrong(case: Case) -> dict[str, Task]:
    x = make(case).x
    return {FORWARD: Task(lambda: 2 * x + 1e-2, lambda y: [y])}


def allocate(case: Case) -> dict[str, Task]:
    return {GRADIENT: Task(lambda: np.ones(case.T * 10**6, np.int8), lambda y: [y])}
