"""Runs a learner's function in a process of its own: python worker.py FILE NAME REQUEST REPLIES.

A script that imports nothing of minseg, so that it starts quickly; unless "tape" comes last, for a
part of a network, which is a function on Tensors. REQUEST holds the name and the arguments of every
case, REPLIES gets one answer a call, at once: an endless loop or a crash loses only the rest.
"""

import copy
import io
import pickle
import runpy
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

import numpy as np

READY_MADE = (
    "minseg", "torch", "torchvision", "scipy", "skimage", "sklearn", "cv2", "PIL", "jax", "cupy",
    "tensorflow", "keras",
)  # fmt: skip


class Told(io.TextIOBase):
    """Standard output and error, where what a call prints stands below the name of its case.

    Written at once: the call may be an endless loop, which is ended from outside.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.case = stream, ""

    def write(self, text: str) -> int:
        if self.case:
            self.stream.write(f"{self.case}:\n")
            self.case = ""
        self.stream.write(text)
        self.stream.flush()
        return len(text)


class Refuse:
    """Finds no library that has the ready op, however it is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in READY_MADE:
            raise ImportError(f"{name} is not for exercises")


def call(function: Any, arguments: dict[str, Any], path: str) -> dict[str, Any]:
    """What the function returned ("outputs"), or how it failed ("raised", "line", "text")."""
    given = copy.deepcopy(arguments)
    try:
        result = function(**given)
    except BaseException as error:
        return _failure(error, path)
    values = result if isinstance(result, tuple) else (result,)
    numbers = (np.ndarray, np.generic, int, float)
    changed = [
        name for name, value in arguments.items()
        if isinstance(value, np.ndarray) and not np.array_equal(value, given[name], equal_nan=True)
    ]  # fmt: skip
    return {
        "outputs": [np.asarray(v) if isinstance(v, numbers) else None for v in values],
        "types": [type(v).__name__ for v in values],
        "changed": changed,
    }


def _failure(error: BaseException, path: str) -> dict[str, Any]:
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
           if frame.filename == path]  # fmt: skip
    return {"raised": type(error).__name__, "text": str(error), "line": own[-1] if own else 0}


def main(path: str, name: str, request: str, replies: str, tape: str = "") -> None:
    sys.path.pop(0)  # this file's folder, whose names are not the learner's
    if tape:  # all that a part may use of minseg is imported before the rest is refused
        sys.path.append(str(Path(__file__).parents[2]))
        import minseg.functional  # noqa: F401
        from minseg.exercises.tape import on_tape
    sys.meta_path.insert(0, Refuse())  # type: ignore[arg-type]
    warnings.simplefilter("ignore")
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # a pipe's may be ASCII
    sys.stdout = sys.stderr = told = Told(sys.stdout)  # one stream, so that the order is kept
    with open(request, "rb") as file:
        calls = pickle.load(file)
    with open(replies, "wb", buffering=0) as file:
        try:
            function = runpy.run_path(path)[name]
        except BaseException as error:
            pickle.dump({"import": _failure(error, path)}, file)
            return
        function = on_tape(function) if tape else function
        for case, arguments in calls:
            told.case = case
            pickle.dump(call(function, arguments, path), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
