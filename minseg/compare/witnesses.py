"""The witnesses compute the cases. Each computes one part at a time, and is timed where it can be.

definition   the formula in plain loops
numpy        minseg on the CPU
emulated     the op's CUDA kernels, run on the CPU by the emulator
gpu          the same kernels on a GPU (and CuPy, where an op needs no kernel)
torch        PyTorch on the CPU

`knows` says whether a witness can compute a part of a case. `compute` does so, from the case's
arrays by name, and returns an Outcome.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import minseg.functional
from minseg import kernels
from minseg.compare.cases import Case
from minseg.compare.floors import Timed, on_cpu, on_gpu
from minseg.cuda import faults
from minseg.device import to_device
from minseg.emulator import compiler
from minseg.emulator.findings import Finding
from minseg.emulator.sanitize import sanitize_launch
from minseg.ops.op import use_kernels
from minseg.tensor import Tensor

AT_LEAST = 2  # runs that are timed
SECONDS = 0.02  # more runs are timed until they took this long


@dataclass(frozen=True)
class Outcome:
    """A witness's result for a part: the array, the shortest time, the kernels launched."""

    array: np.ndarray
    seconds: float | None = None
    moved: int = 0  # bytes that have to be read and written: arguments or upstream, and result
    kernels: tuple[str, ...] = ()


class KernelFault(RuntimeError):
    """The sanitizer found something; the kernel was not run."""


class Definition:
    name, device = "definition", "cpu"

    def knows(self, case: Case, part: str) -> bool:
        return case.definition is not None and part in case.outputs

    def compute(self, case: Case, part: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
        assert case.definition is not None
        result, seconds = on_cpu(partial(case.definition, **arrays))
        outputs = result if isinstance(result, tuple) else (result,)
        array = np.asarray(outputs[case.outputs.index(part)])
        return Outcome(array, seconds, _bytes(*arrays.values(), array))


class NumPy:
    name, device = "numpy", "cpu"

    def knows(self, case: Case, part: str) -> bool:
        return True

    def compute(self, case: Case, part: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
        return run_part(case, part, arrays, minseg.functional, Tensor, Tensor.numpy, on_cpu)

    def all_parts(self, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output and gradient, from one forward and one backward pass."""
        tensors = {name: Tensor(array) for name, array in arrays.items()}
        for name in case.gradients:
            tensors[name].requires_grad_()
        outputs = case.run(minseg.functional, tensors)
        parts = {part: y.numpy() for part, y in zip(case.outputs, outputs, strict=False)}
        if not case.gradients:
            return parts
        outputs[0].backward(case.upstream(outputs[0].shape, next(iter(arrays.values())).dtype))
        gradients: dict[str, Any] = {f"grad_{name}": tensors[name].grad for name in case.gradients}
        return parts | {part: gradient.numpy() for part, gradient in gradients.items()}


class Gpu:
    name, device = "gpu", "cuda"

    def __init__(self) -> None:
        self.lost = ""  # the op and the part that made the GPU unusable, if one did

    def knows(self, case: Case, part: str) -> bool:
        return not self.lost

    def compute(self, case: Case, part: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
        def make(array: np.ndarray) -> Tensor:
            return Tensor(to_device(array, "cuda"))

        try:
            return run_part(case, part, arrays, minseg.functional, make, Tensor.numpy, on_gpu)
        except Exception as error:
            if faults.loses_gpu(error):
                self.lost = f"{case.op} {part}"
            raise


class Torch:
    name, device = "torch", "cpu"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def knows(self, case: Case, part: str) -> bool:
        there = hasattr(self.torch.nn.functional, case.op)
        return case.torch and (case.call is not None or there)

    def compute(self, case: Case, part: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
        def make(array: np.ndarray) -> Any:
            return self.torch.from_numpy(np.array(array))

        def read(tensor: Any) -> np.ndarray:
            return tensor.detach().numpy()

        return run_part(case, part, arrays, self.torch.nn.functional, make, read, on_cpu)


class Emulated:
    """Runs each part once and gives no time: a CPU's would say nothing about a GPU's."""

    name, device = "emulated", "emulator"

    def __init__(self, sanitize: bool = False) -> None:
        self.sanitize = sanitize
        self.findings: list[Finding] = []

    def knows(self, case: Case, part: str) -> bool:
        return not case.large

    def compute(self, case: Case, part: str, arrays: Mapping[str, np.ndarray]) -> Outcome:
        with self.emulating() as launched:
            array = run_part(
                case, part, arrays, minseg.functional, Tensor, Tensor.numpy, on_cpu, 1,
                launched.clear,
            ).array  # fmt: skip
        return Outcome(array, kernels=tuple(dict.fromkeys(launched)))

    @contextmanager
    def emulating(self) -> Iterator[list[str]]:
        """Within this, ops run their CUDA kernels, whose names are added to the list it yields."""
        launched: list[str] = []

        def observe(launch: kernels.Launch) -> None:
            launched.append(launch.instance)
            found = sanitize_launch(launch) if self.sanitize else []
            if found:
                self.findings += found
                raise KernelFault(f"the sanitizer found: {str(found[0]).splitlines()[0]}")

        kernels.observers.append(observe)
        try:
            with use_kernels("emulator"):
                yield launched
        finally:
            kernels.observers.remove(observe)


Witness = Definition | NumPy | Emulated | Gpu | Torch


def run_part(
    case: Case, part: str, arrays: Mapping[str, np.ndarray], library: Any,
    make: Callable[[np.ndarray], Any], read: Callable[[Any], np.ndarray], timed: Timed,
    runs: int = AT_LEAST, begin: Callable[[], object] = lambda: None,
) -> Outcome:  # fmt: skip
    """Compute the part with minseg's tensors or PyTorch's, whose functions have the same names.

    `begin` is called each time just before the part itself: for a gradient, after the forward pass.
    """
    tensors = {name: make(array) for name, array in arrays.items()}
    argument = part.removeprefix("grad_") if part.startswith("grad_") else None
    if argument is not None:
        tensors[argument].requires_grad_()
    fastest, spent, done = float("inf"), 0.0, 0
    moved = _bytes(*arrays.values())
    while done < runs or (spent < SECONDS and runs > 1):
        if argument is None:
            begin()
            outputs, seconds = timed(lambda: case.run(library, tensors))
            result = outputs[case.outputs.index(part)]
        else:
            y = case.run(library, tensors)[0]
            given = case.upstream(tuple(y.shape), next(iter(arrays.values())).dtype)
            upstream, moved = make(given), given.nbytes
            tensors[argument].grad = None
            begin()
            _, seconds = timed(partial(y.backward, upstream))
            result = tensors[argument].grad
        fastest, spent, done = min(fastest, seconds), spent + seconds, done + 1
    array = np.asarray(read(result))
    return Outcome(array, fastest, moved + array.nbytes)


def _bytes(*arrays: np.ndarray) -> int:
    return sum(array.nbytes for array in arrays)


def choose(device: str, sanitize: bool) -> tuple[list[Witness], list[str]]:
    """The witnesses that this machine has, and a note on each one that is missing.

    `device`: "auto" (all there are), "cuda" (the kernels on a GPU; RuntimeError without one),
    "emulator" (the kernels in the emulator; RuntimeError without a C++ compiler).
    """
    witnesses: list[Witness] = [Definition(), NumPy()]
    notes: list[str] = []
    if device != "cuda":
        try:
            compiler.compiler()
            witnesses.append(Emulated(sanitize))
        except RuntimeError as error:
            if device == "emulator":
                raise
            notes.append(f"no kernel was emulated: {error}")
    if device != "emulator":
        try:
            to_device(np.zeros(1), "cuda")
            witnesses.append(Gpu())
        except RuntimeError as error:
            if device == "cuda":
                raise
            notes.append(
                f"no GPU: with one, the same kernels would be compared there too, and timed beside "
                f"the GPU's floor ({error})"
            )
    if importlib.util.find_spec("torch"):
        witnesses.append(Torch())
    else:
        notes.append('no PyTorch, which would be another witness: pip install "minseg[oracle]"')
    return witnesses, notes
