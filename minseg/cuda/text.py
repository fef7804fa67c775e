"""CUDA source as text: where comments, directives, brackets and commas are."""

import re

ELSE = ("else", "elif")


def blank(text: str) -> str:
    """The text with comments, strings, characters and what `#if 0` leaves out as spaces."""
    token = re.compile(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![\w])\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
    )
    lines = token.sub(_spaces, text).split("\n")
    depth = 0  # of #if, counted from an `#if 0`
    for i, line in enumerate(lines):
        directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line) if "#" in line else None
        word, condition = directive.groups() if directive else ("", "")
        if depth == 0:
            depth = int(word == "if" and condition.strip() == "0")
            continue
        ends = word == "endif" or (depth == 1 and word in ELSE)
        depth += word.startswith("if") - ends
        if depth:
            lines[i] = " " * len(line)
    return "\n".join(lines)


def without_directives(code: str) -> str:
    """The code with lines such as `#define` turned into spaces, same length."""
    return re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", _spaces, code, flags=re.MULTILINE)


def _spaces(match: re.Match[str]) -> str:
    return "\n".join(" " * len(line) for line in match[0].split("\n"))


def closing(code: str, start: int) -> int:
    """Index of the bracket that closes the one at `start`."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    depth = 0
    for i in range(start, len(code)):
        if code[i] == code[start]:
            depth += 1
        elif code[i] == pairs[code[start]]:
            depth -= 1
            if depth == 0:
                return i
    raise ValueError(f"a {code[start]} that is never closed")


def split_commas(text: str, angles: bool = False) -> list[str]:
    """Split at the commas that stand outside every bracket; with `angles`, < and > are brackets."""
    parts, depth, inner, start = [], 0, 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if angles and depth == 0:  # elsewhere they compare: `tile[N < 32 ? N : 32]`
            inner += (character == "<") - (character == ">")
        if character == "," and depth == inner == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]
