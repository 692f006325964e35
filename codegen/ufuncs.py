"""The calls that an Apply may make: NumPy's ufuncs by name, and the few that are spelled out in the emitted file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.functions import FUNCTIONS


@dataclass(frozen=True)
class Ufunc:
    """``text`` is the callable's name in emitted source; every one takes ``out=``."""

    text: str
    implementation: Callable[..., Any]


UFUNCS: dict[str, Ufunc] = {
    "add": Ufunc("np.add", np.add),
    "subtract": Ufunc("np.subtract", np.subtract),
    "multiply": Ufunc("np.multiply", np.multiply),
    "divide": Ufunc("np.divide", np.divide),
    "negative": Ufunc("np.negative", np.negative),
    "square": Ufunc("np.square", np.square),
    "reciprocal": Ufunc("np.reciprocal", np.reciprocal),
    "copy": Ufunc("np.positive", np.positive),
}
for _name, _rule in FUNCTIONS.items():
    if _rule.ufunc is not None and _rule.implementation is not None:
        UFUNCS[_name] = Ufunc(_rule.ufunc, _rule.implementation)
