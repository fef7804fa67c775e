"""What runs in an engine's own process: python engine.py minseg|torch.

It answers each line of JSON with a line of JSON:
    {"op": 3}                                    prepare op number 3 of `cases.OPS`
    {"model": "unet", "options": {...}, "shape": [8, 64, 64], "task": "train"}
    {"run": true}                                -> {"seconds": ...}, of a run after warming up
    {"memory": true}                             -> {"bytes": the peak, above that of the import}
An error is answered as {"error": "..."}.

The file runs as a script, not as a part of minseg, so that PyTorch's process never imports minseg,
which changes how the C library hands out memory.
"""

import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import OPS, LabelCase, OpCase  # beside this file: sys.path[0] is its folder

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # where minseg is

CLASSES = 11

# Seconds of untimed runs before the timed one. The other engine, which ran last, has filled the
# caches, and its threads stay awake for a while, waiting for more to do: PyTorch's were seen to
# take one of two cores for 4 to 8 ms after each run.
WARM_UP = 0.02


class Minseg:
    def __init__(self) -> None:
        from minseg import Tensor, functional, models, no_grad, optim

        self.tensor, self.no_grad = Tensor, no_grad
        self.F, self.models, self.Adam = functional, models, optim.Adam


class Torch:
    def __init__(self) -> None:
        import torch
        from on_torch import models_on_torch

        self.tensor, self.no_grad = torch.tensor, torch.no_grad
        self.F, self.models, self.Adam = torch.nn.functional, models_on_torch(), torch.optim.Adam


def op_action(engine: Any, case: OpCase) -> Callable[[], None]:
    """The output and the gradients, as one call."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in case.shapes]
    if isinstance(case, LabelCase):
        arrays[-1] = rng.integers(0, case.classes, case.shapes[-1])
    variables = len(arrays) - case.constants
    tensors = [engine.tensor(a, requires_grad=i < variables) for i, a in enumerate(arrays)]
    shape = tuple(case.call(engine.F, *tensors).shape)
    upstream = engine.tensor(rng.standard_normal(shape).astype(np.float32))

    def action() -> None:
        for tensor in tensors:
            tensor.grad = None
        case.call(engine.F, *tensors).backward(upstream)

    return action


def model_action(
    engine: Any, name: str, options: dict[str, Any], shape: tuple[int, ...], task: str
) -> Callable[[], None]:
    """A whole training step (forward, loss, backward, Adam), or a prediction."""
    rng = np.random.default_rng(0)
    batch, height, width = shape
    images = engine.tensor(rng.standard_normal((batch, 3, height, width), np.float32))
    labels = engine.tensor(rng.integers(0, CLASSES, (batch, height, width)))
    model = engine.models.build(name, num_classes=CLASSES, **options)

    def predict() -> None:
        with engine.no_grad():
            model(images)

    if task == "predict":
        model.eval()
        return predict
    optimizer = engine.Adam(model.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        engine.F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return train


def seconds_of(action: Callable[[], None]) -> float:
    """The time of one run, after untimed runs have kept the engine busy for WARM_UP seconds."""
    begin = start = time.perf_counter()
    while start - begin < WARM_UP:
        action()
        start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def serve(engine: Any) -> None:
    """Answer requests until standard input ends."""
    imported = peak_bytes()
    action: Callable[[], None]
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if "op" in request:
                action = op_action(engine, OPS[request["op"]])
            elif "model" in request:
                action = model_action(engine, request["model"], request["options"],
                                      request["shape"], request["task"])  # fmt: skip
            elif "run" in request:
                answer["seconds"] = seconds_of(action)
            elif "memory" in request:
                answer["bytes"] = peak_bytes() - imported
        except Exception as error:  # the other process prints it
            answer["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGPIPE):  # the bench stopped: it says so itself
        signal.signal(end, signal.SIG_DFL)
    serve({"minseg": Minseg, "torch": Torch}[sys.argv[1]]())
