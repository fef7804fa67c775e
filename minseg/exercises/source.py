"""What the text of a learner's file says, before it is run: syntax, own work, signature."""

import ast
import warnings

import minseg
from minseg.exercises import worker
from minseg.exercises.task import Exercise
from minseg.exercises.verdict import Failed


def parse(text: str) -> ast.Module:
    """The text's syntax tree. Raises Failed with the line that Python does not understand."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\\d" in a docstring
            compile(text, "", "exec")  # sees more than ast.parse: a `return` outside of a function
            return ast.parse(text)
    except ValueError as error:  # a null byte
        raise Failed("syntax", str(error)) from None
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        raise Failed("syntax", f"line {error.lineno}: {error.msg}\n    {line}") from None


# Of minseg, for parts of networks: Tensors and the ops on them.
OPEN = {"minseg", "minseg.functional", "minseg.tensor", *(f"minseg.{n}" for n in minseg.__all__)}


def check_own_work(exercise: Exercise, tree: ast.Module) -> None:
    """Raises Failed where the file imports what it is to write."""
    is_part = exercise.task.on_tape
    what, takes = ("part", "minseg.functional is") if is_part else ("op", "NumPy is")
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inside = is_part and node.module == "minseg"  # from minseg import functional
            names += [f"minseg.{a.name}" for a in node.names] if inside else [node.module or ""]
        for name in names:
            if name.split(".")[0] in worker.READY_MADE and not (is_part and name in OPEN):
                raise Failed(
                    "own work",
                    f"line {node.lineno} imports {name}: calling a ready-made {what} is declined; "  # type: ignore[attr-defined]
                    f"the exercise is to write it. {takes} all you need.",
                )


def check_signature(exercise: Exercise, tree: ast.Module) -> None:
    """Raises Failed where the function is missing, or takes other arguments than the stub."""
    want = _function(ast.parse(exercise.stub), exercise.name)
    got = _function(tree, exercise.name)
    assert want is not None
    if got is None:
        raise Failed(
            "signature",
            f"there is no `def {exercise.name}(...):` at the left margin; was it renamed?",
        )
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
