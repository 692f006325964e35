"""Initial values of parameters: rules by name, chosen by a parameter's role.

The rules in ``RULES`` are pure functions ``(shape, rng) -> float64 array`` that need numpy alone, so that a
standalone file can carry their text. A dense weight has shape (source size, destination size): its fan-in is
``shape[-2]``, its fan-out ``shape[-1]``; a diagonal weight connects each unit with one, so both are 1.

Every parameter draws from its own stream, seeded by ``(seed, name)``: adding or removing a node changes no other
parameter.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import OptionError
from rnngraph.words import clip

ROLES = ("input_weight", "recurrent_weight", "diagonal", "bias", "forget_bias", "initial", "delay_logits")


@dataclass(frozen=True)
class ParameterSpec:
    """What a rule may know of a parameter.

    ``role`` is one of ``ROLES``: "input_weight" (dense, source and destination differ), "recurrent_weight" (dense
    and part of a loop), "diagonal" (one weight a unit), "bias", "forget_bias" (the bias of a forget gate),
    "initial" (a learned initial value), "delay_logits" (of a learned delay, one for each delay). Raises ``OptionError``
    for any other role.
    """

    name: str
    shape: tuple[int, ...]
    role: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise OptionError(
                f"parameter {self.name!r}",
                f"the role {self.role!r}",
                f"one of {', '.join(ROLES)}",
                _nearest(self.role, ROLES),
            )


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All 0."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All 1; for a forget gate's bias: Gers et al. (2000), Jozefowicz, Zaremba and Sutskever (2015)."""
    return np.ones(shape)


def small(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal with mean 0 and standard deviation 0.1: a loop that forgets at first."""
    return rng.normal(0.0, 0.1, shape)


def uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform in +-1/sqrt(fan-in): LeCun et al. (1998) without the factor sqrt(3), as many libraries have it."""
    limit = (shape[-2] if len(shape) > 1 else 1) ** -0.5
    return rng.uniform(-limit, limit, shape)


def glorot(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform in +-sqrt(6/(fan-in + fan-out)): Glorot and Bengio (2010), equation 16."""
    limit = (6.0 / (shape[-2] + shape[-1] if len(shape) > 1 else 2)) ** 0.5
    return rng.uniform(-limit, limit, shape)


def he(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal with variance 2/fan-in, for rectifiers: He, Zhang, Ren and Sun (2015), equation 10."""
    return rng.normal(0.0, (2.0 / (shape[-2] if len(shape) > 1 else 1)) ** 0.5, shape)


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Random orthogonal matrix, uniform over the group: Saxe et al. (2014); signs as in Mezzadri (2007).

    Not square: the shorter side is orthonormal (W W^T = 1 or W^T W = 1).
    """
    rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0.0, -1.0, 1.0)
    return np.ascontiguousarray(q if rows >= columns else q.T)


def identity(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Identity matrix, for recurrent weights of rectifiers: Le, Jaitly and Hinton (2015)."""
    rows, columns = shape
    return np.eye(rows, columns)


RULES: dict[str, Callable[[tuple[int, ...], np.random.Generator], NDArray[np.float64]]] = {
    "glorot": glorot,
    "he": he,
    "identity": identity,
    "ones": ones,
    "orthogonal": orthogonal,
    "small": small,
    "uniform": uniform,
    "zeros": zeros,
}

MATRIX_RULES = frozenset({"identity", "orthogonal"})


def _apply(rule: str, spec: ParameterSpec, rng: np.random.Generator) -> NDArray[np.float64]:
    if rule in MATRIX_RULES and len(spec.shape) != 2:
        raise OptionError(
            f"parameter {spec.name!r}",
            f"the initialisation rule {rule!r} for the shape {spec.shape}",
            "a matrix",
            "give this parameter a rule for any shape, such as 'small', 'uniform' or 'zeros'",
        )
    return RULES[rule](spec.shape, rng)


INITIALISERS: dict[str, Callable[[ParameterSpec, np.random.Generator], NDArray[np.float64]]] = {
    rule: partial(_apply, rule) for rule in RULES
}


def default_rule(spec: ParameterSpec) -> str:
    """Name of the rule for ``spec`` where the user names none.

    Glorot for dense weights, orthogonal for square recurrent ones (the state neither grows nor shrinks at first),
    small for diagonal ones, ones for a forget gate's bias (the cell remembers at first), zeros for biases, initial
    values and the logits of delays (all delays alike at first).
    """
    if spec.role == "recurrent_weight" and len(spec.shape) == 2 and spec.shape[0] == spec.shape[1]:
        return "orthogonal"
    return {
        "diagonal": "small",
        "bias": "zeros",
        "forget_bias": "ones",
        "initial": "zeros",
        "delay_logits": "zeros",
    }.get(spec.role, "glorot")


def parameter_generator(name: str, seed: int) -> np.random.Generator:
    """Generator of one parameter's stream; depends on ``seed`` and the bytes of ``name`` alone."""
    key = tuple(name.encode("utf-8", "surrogatepass"))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def initialise(
    specs: Iterable[ParameterSpec], seed: int = 0, rules: Mapping[str, str] | None = None, only_given: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Initial values of all parameters, name -> float64 array of the parameter's shape.

    ``rules`` maps a parameter's name or a role to the name of a rule; a name goes before a role, a role before
    ``default_rule``; with ``only_given``, what no rule is for is left out. Raises ``OptionError`` for rules that are no
    mapping, for an unknown rule, for a key that is neither a parameter nor a role, for a matrix rule on another shape
    and for a seed that is not an integer >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise OptionError("seed", repr(seed), "an integer >= 0", "give a seed such as 0")
    if rules is not None and not isinstance(rules, Mapping):
        raise OptionError(
            "initialisation rules", f"{clip(rules)} of type {type(rules).__name__}",
            "a mapping from names of parameters or roles to rules", 'write {"bias": "zeros"} for instance',
        )  # fmt: skip
    every = list(specs)
    given = dict(rules or {})
    names = [spec.name for spec in every]
    for key, rule in given.items():
        if key not in names and key not in ROLES:
            known = [*names, *ROLES]
            raise OptionError(
                f"initialisation rules, key {key!r}",
                "no parameter and no role of that name",
                f"a parameter ({', '.join(names) or 'there are none'}) or a role ({', '.join(ROLES)})",
                _nearest(key, known),
            )
        if not isinstance(rule, str) or rule not in RULES:
            raise OptionError(
                f"initialisation rule of {key!r}", clip(rule), f"one of {', '.join(RULES)}", _nearest(rule, RULES)
            )
    values = {}
    for spec in every:
        rule = given.get(spec.name) or given.get(spec.role) or ("" if only_given else default_rule(spec))
        if not rule:
            continue
        values[spec.name] = INITIALISERS[rule](spec, parameter_generator(spec.name, int(seed)))
    return values


def _nearest(word: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of the names listed"
