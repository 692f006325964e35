"""The learning rules by name: what each needs, and whether its gradient is exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.errors import OptionError, UnsupportedError


@dataclass(frozen=True)
class RuleInfo:
    """``family``: how it is derived. ``options``: those it takes, with their defaults (None: must be given).
    ``exact``: whether its gradient is that of BPTT; ``source``: where it was published."""

    family: str  # "bptt", "windows", "sensitivities", "blocks"
    exact: bool
    source: str
    options: tuple[tuple[str, int | None], ...] = ()


RULES: dict[str, RuleInfo] = {
    "bptt": RuleInfo("bptt", True, "Werbos (1990)"),
    "tbptt": RuleInfo("windows", False, "Williams and Peng (1990)", (("k1", None), ("k2", None))),
    "rtrl": RuleInfo("sensitivities", True, "Williams and Zipser (1989)"),
    "focused": RuleInfo("sensitivities", True, "Mozer (1989)"),
    "bptt-rtrl": RuleInfo("blocks", True, "Schmidhuber (1992)", (("block", 0),)),
    "rflo": RuleInfo("sensitivities", False, "Murray (2019)"),
    "eprop": RuleInfo("sensitivities", False, "Bellec et al. (2020)"),
    "snap": RuleInfo("sensitivities", False, "Menick et al. (2021)", (("order", 1),)),
    "uoro": RuleInfo("sensitivities", False, "Tallec and Ollivier (2018)", (("seed", 0),)),
}
LOWEST = {"k1": 1, "k2": 1, "block": 0, "order": 1, "seed": 0}


@dataclass(frozen=True)
class Rule:
    """A learning rule with its options: ``k1``, ``k2`` of "tbptt", ``block`` of "bptt-rtrl" (0: chosen by the number of
    states), ``order`` of "snap", ``seed`` of "uoro"; the others are 0."""

    name: str = "bptt"
    k1: int = 0
    k2: int = 0
    block: int = 0
    order: int = 0
    seed: int = 0

    @property
    def info(self) -> RuleInfo:
        """The rule's row of the table."""
        return RULES[self.name]

    def __str__(self) -> str:
        options = ", ".join(f"{option}={getattr(self, option)}" for option, _ in self.info.options)
        return f"{self.name}({options})" if options else self.name


def check_rule(method: object, wrt: tuple[str, ...] = ("parameters",), **options: object) -> Rule:
    """The rule called ``method`` with its options (those that are None were not given).

    Raises OptionError for an unknown name, for an option that the rule does not take, lacks, or that is out of range;
    UnsupportedError for a ``wrt`` that the rule cannot give.
    """
    if not isinstance(method, str) or method not in RULES:
        raise OptionError("method", repr(method), f"one of {', '.join(RULES)}", "check the spelling")
    info = RULES[method]
    known = dict(info.options)
    values: dict[str, int] = {}
    for option, value in {**dict.fromkeys(known), **options}.items():
        if option not in known:
            if value is not None:
                takers = " or ".join(repr(name) for name, rule in RULES.items() if option in dict(rule.options))
                raise OptionError(
                    option, f"{value!r} with method={method!r}", "no such option", f"it belongs to method={takers}"
                )
            continue
        value = known[option] if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < LOWEST[option]:
            remedy = "give the number of steps" if option in ("k1", "k2", "block") else "leave it out for the default"
            raise OptionError(option, repr(value), f"an integer >= {LOWEST[option]} for method={method!r}", remedy)
        values[option] = int(value)
    if values.get("k2", 0) < values.get("k1", 0):
        raise OptionError(
            "k2", f"{values['k2']} with k1={values['k1']}", "k2 >= k1", f"the nearest that works: k2={values['k1']}"
        )
    if info.family != "bptt" and tuple(wrt) != ("parameters",):
        raise UnsupportedError(
            "wrt", f"{tuple(wrt)} with method={method!r}", "('parameters',)", "use method='bptt' for other gradients"
        )
    return Rule(method, **values)
