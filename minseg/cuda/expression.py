"""Integer expressions of C, as launch lines have them: `ceil_div(W - 1, TILE) * 4`."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"\s*((?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*"
    r"|[A-Za-z_]\w*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%()<>?:,!~&|^])"
)
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="),
    ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., int]] = {
    "ceil_div": lambda a, b: -(-a // b),
    "min": min,
    "max": max,
}


def evaluate(
    text: str,
    look_up: Callable[[str], int | str],
    size_of: Callable[[str], int] | None = None,
) -> int:
    """The value of an expression. `look_up` gives a name's value, or its text to be evaluated.

    Integers only, `/` and `%` as in C. ValueError says what cannot be understood.
    """
    return _Parser(text, look_up, size_of).parse()


class _Parser:
    def __init__(
        self,
        text: str,
        look_up: Callable[[str], int | str],
        size_of: Callable[[str], int] | None,
    ) -> None:
        self.text, self.look_up, self.size_of = text, look_up, size_of
        self.tokens: list[str] = []
        position, text = 0, text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise self.error(f"{text[position:]!r} is not understood")
            self.tokens.append(match[1])
            position = match.end()

    def error(self, what: str) -> ValueError:
        return ValueError(f"expression {self.text!r}: {what}")

    def parse(self) -> int:
        value = self.choice()
        if self.tokens:
            raise self.error(f"{self.tokens[0]!r} is not understood")
        return value

    def take(self, *wanted: str) -> str | None:
        if self.tokens and self.tokens[0] in wanted:
            return self.tokens.pop(0)
        return None

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise self.error(f"{wanted!r} is missing")

    def choice(self) -> int:
        condition = self.binary(0)
        if not self.take("?"):
            return condition
        yes = self.choice()
        self.need(":")
        no = self.choice()
        return yes if condition else no

    def binary(self, level: int) -> int:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while operator := self.take(*_LEVELS[level]):
            left = self.apply(operator, left, self.binary(level + 1))
        return left

    def apply(self, operator: str, a: int, b: int) -> int:
        if operator in ("/", "%"):
            if b == 0:
                raise self.error("division by zero")
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return quotient if operator == "/" else a - b * quotient
        return int(
            {
                "||": lambda: bool(a or b), "&&": lambda: bool(a and b), "|": lambda: a | b,
                "^": lambda: a ^ b, "&": lambda: a & b, "==": lambda: a == b, "!=": lambda: a != b,
                "<": lambda: a < b, ">": lambda: a > b, "<=": lambda: a <= b, ">=": lambda: a >= b,
                "<<": lambda: a << b, ">>": lambda: a >> b, "+": lambda: a + b,
                "-": lambda: a - b, "*": lambda: a * b,
            }[operator]()
        )  # fmt: skip

    def unary(self) -> int:
        if operator := self.take("-", "+", "!", "~"):
            value = self.unary()
            return {"-": -value, "+": value, "!": int(not value), "~": ~value}[operator]
        if self.take("("):
            if self.tokens[:2] and self.tokens[0] in ("int", "unsigned") and self.tokens[1] == ")":
                del self.tokens[:2]  # a cast between integers changes nothing here
                return self.unary()
            value = self.choice()
            self.need(")")
            return value
        if not self.tokens:
            raise self.error("it ends too early")
        token = self.tokens.pop(0)
        if token[0].isdigit():
            return int(token.rstrip("uUlL"), 0)
        if token == "sizeof" and self.size_of and self.take("("):
            words = []
            while self.tokens and self.tokens[0] != ")":
                words.append(self.tokens.pop(0))
            self.need(")")
            return self.size_of(" ".join(words))
        if self.take("("):
            arguments = [self.choice()]
            while self.take(","):
                arguments.append(self.choice())
            self.need(")")
            if token not in _FUNCTIONS:
                raise self.error(f"there is no function {token!r} (ceil_div, min, max)")
            if len(arguments) != 2:
                raise self.error(f"{token} has {len(arguments)} arguments, needs 2")
            if token == "ceil_div" and arguments[1] == 0:
                raise self.error("division by zero")
            return _FUNCTIONS[token](*arguments)
        if not re.match(r"[A-Za-z_]", token):
            raise self.error(f"{token!r} is not understood")
        found = self.look_up(token)
        return found if isinstance(found, int) else evaluate(found, self.look_up, self.size_of)
