"""What the text of a learner's file says, before it is run: syntax, own work, signature."""

import ast

from minseg.exercises import worker
from minseg.exercises.task import Exercise
from minseg.exercises.verdict import Failed


def parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except ValueError as error:  # a null byte
        raise Failed("syntax", str(error)) from None
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        raise Failed("syntax", f"line {error.lineno}: {error.msg}\n    {line}") from None


def check_own_work(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in worker.READY_MADE:
                raise Failed(
                    "own work",
                    f"line {node.lineno} imports {name}: to call a ready op is declined here; the "  # type: ignore[attr-defined]
                    "exercise is to write it. NumPy is all that it takes.",
                )


def check_signature(exercise: Exercise, tree: ast.Module) -> None:
    want = _function(ast.parse(exercise.stub), exercise.name)
    got = _function(tree, exercise.name)
    assert want is not None
    if got is None:
        raise Failed("signature", f"there is no function {exercise.name}; was it renamed?")
    if _arguments(got) != _arguments(want):
        raise Failed(
            "signature",
            f"line {got.lineno}: {exercise.name} has to take ({_arguments(want)}), "
            f"yours takes ({_arguments(got)})",
        )


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    return found[-1] if found else None


def _arguments(function: ast.FunctionDef) -> str:
    arguments = ast.parse(ast.unparse(function.args).join(["def f(", "): ..."])).body[0]
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(arguments.args)  # type: ignore[attr-defined]
