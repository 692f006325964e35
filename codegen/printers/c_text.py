"""Pointwise expressions and names as C text, for CUDA and for C alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codegen.functions import FUNCTIONS
from codegen.ir import Expression
from codegen.names import Namer, comment_text

# C++ keywords that are no Python keywords, what the kernels themselves use, and macros that a compiler may predefine.
RESERVED = {
    "alignas", "alignof", "asm", "auto", "bool", "case", "catch", "char", "const", "constexpr", "decltype",
    "default", "delete", "do", "double", "dynamic_cast", "enum", "explicit", "export", "extern", "false",
    "float", "friend", "goto", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "nullptr",
    "operator", "private", "protected", "public", "register", "reinterpret_cast", "short", "signed", "sizeof",
    "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw",
    "true", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "wchar_t", "and_eq", "bitand", "bitor", "compl", "not_eq", "or_eq", "xor", "xor_eq", "char8_t", "char16_t",
    "char32_t", "concept", "requires", "consteval", "constinit", "co_await", "co_return", "co_yield", "real",
    "element", "elements", "row", "column", "linux", "unix", "i386", "errno", "assert", "stdin", "stdout",
    "stderr", "blockIdx", "blockDim", "threadIdx", "gridDim", "warpSize",
}  # fmt: skip
FLOAT32_TINIEST = 2.0**-150  # it and what is smaller become 0
SUM, PRODUCT, ATOM = range(3)  # how tightly a text binds


def c_namer(dtype: str) -> Namer:
    """Names that are safe in CUDA C: no keyword, no macro, and no function of the table."""
    suffix = suffix_of(dtype)
    spelled = {rule.c.split("(")[0].strip().format(f=suffix) for rule in FUNCTIONS.values() if rule.c}
    return Namer(RESERVED | spelled | {f"log1p{suffix}", f"exp{suffix}", f"fabs{suffix}", f"fmax{suffix}"})


def suffix_of(dtype: str) -> str:
    """What C appends to a literal and to a function's name for the float type."""
    return "f" if dtype == "float32" else ""


@dataclass
class CExpression:
    """Prints an expression of primitives. ``hold`` makes a constant of a text that is needed more than once;
    ``spelled`` has what functions are called here in place of their name in the table."""

    values: Mapping[Expression, str]
    dtype: str
    hold: Callable[[str, str], str]
    spelled: Mapping[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)

    def text(self, expression: Expression) -> str:
        """The whole expression."""
        return self._bound(expression)[0]

    def _bound(self, expression: Expression) -> tuple[str, int]:
        """The text and how tightly it binds."""
        if expression.is_Symbol:
            return self.values[expression], ATOM
        if expression.is_number:
            value = float(expression)
            if self.dtype == "float32" and abs(value) <= FLOAT32_TINIEST:
                value = 0.0  # as it is rounded: a compiler would warn
            return f"{value!r}{suffix_of(self.dtype)}", ATOM if value >= 0 else SUM
        if expression.is_Add:
            return self._sum(expression), SUM
        if expression.is_Mul:
            return self._product(expression)
        if expression.is_Pow:
            return self._power(expression)
        return self._function(expression), ATOM

    def _at_least(self, level: int, expression: Expression) -> str:
        text, bound = self._bound(expression)
        return text if bound >= level else f"({text})"

    def _atom(self, expression: Expression) -> str:
        """A name or number: what is compound gets a constant of its own, one for equal texts."""
        text = self.text(expression)
        if expression.is_Symbol or (expression.is_number and expression >= 0):
            return text
        if text not in self.held:
            self.held[text] = self.hold(text, "part")
        return self.held[text]

    def _sum(self, expression: Expression) -> str:
        first, *others = sorted(expression.args, key=_is_negative)  # a stable order: the positive terms first
        text = self._at_least(SUM, first)
        for term in others:
            sign, term = ("-", -term) if _is_negative(term) else ("+", term)
            text += f" {sign} {self._at_least(PRODUCT, term)}"
        return text

    def _product(self, expression: Expression) -> tuple[str, int]:
        coefficient, rest = expression.as_coeff_Mul()
        over, under = [], []
        for factor in rest.args if rest.is_Mul else (rest,):
            if factor.is_Pow and factor.exp < 0:
                under.append(factor.base**-factor.exp)
            else:
                over.append(factor)
        parts = [] if abs(coefficient) == 1 and over else [self.text(abs(coefficient))]
        parts += [self._at_least(ATOM, factor) for factor in over]
        text = " * ".join(parts) + "".join(f" / {self._at_least(ATOM, factor)}" for factor in under)
        return (f"-{text}", SUM) if coefficient < 0 else (text, PRODUCT)

    def _power(self, expression: Expression) -> tuple[str, int]:
        exponent = int(expression.exp)
        if exponent < 0:
            one = f"1.0{suffix_of(self.dtype)}"
            return f"{one} / {self._at_least(ATOM, expression.base**-exponent)}", PRODUCT
        base = self._atom(expression.base)
        if exponent <= 3:
            return " * ".join([base] * exponent), PRODUCT
        half = self._atom(expression.base ** (exponent // 2))
        return f"{half} * {half}" + (f" * {base}" if exponent % 2 else ""), PRODUCT

    def _function(self, expression: Expression) -> str:
        name = expression.func.__name__
        spelling = self.spelled.get(name, FUNCTIONS[name].c)
        assert spelling is not None, "not a primitive: run rewrite_in_primitives first"
        arguments = [
            self.text(argument) if spelling.count(f"{{{k}}}") == 1 else self._atom(argument)
            for k, argument in enumerate(expression.args)
        ]
        return spelling.format(*arguments, f=suffix_of(self.dtype))


def _is_negative(term: Expression) -> bool:
    return bool(term.as_coeff_Mul()[0] < 0)


def index_text(*terms: tuple[int, str], start: int) -> str:
    """factor * variable + ... + start; a term without a variable is left out."""
    texts = [variable if factor == 1 else f"{factor} * {variable}" for factor, variable in terms if variable]
    if start or not texts:
        texts.append(str(start))
    return " + ".join(texts)


def comment_lines(notes: list[str]) -> list[str]:
    return [f"// {comment_text(note)}".encode("ascii", "replace").decode() for note in notes if note]
