"""The networks of minseg/models on PyTorch: the same files, with torch.nn in place of minseg.nn.

It works because the names and arguments agree, and it is the fairest comparison: the same network,
layer by layer, on another engine. Nothing of minseg's own engine is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


def models_on_torch() -> Any:
    """The module minseg.models, its networks made of torch's layers, its weights torch's.

    Weights that torch.nn.init has no name for (bilinear) stay as torch draws them.
    Raises ImportError where PyTorch is not installed.
    """
    import torch

    init = types.ModuleType("init")
    init.__dict__.update({**vars(torch.nn.init), "bilinear_": lambda weight: weight})
    nn = types.ModuleType("nn")
    nn.__dict__.update({**vars(torch.nn), "init": init, "in_turn": _in_turn})
    package = types.ModuleType("minseg")
    spec = importlib.util.find_spec("minseg")
    package.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    package.nn, package.functional = nn, torch.nn.functional  # type: ignore[attr-defined]
    tensor, joining = types.ModuleType("tensor"), types.ModuleType("joining")
    tensor.__dict__.update({"Tensor": torch.Tensor})
    joining.__dict__.update({"cat": torch.cat, "stack": torch.stack})

    def ours() -> dict[str, types.ModuleType]:
        return {name: m for name, m in sys.modules.items() if name.split(".")[0] == "minseg"}

    saved = ours()
    for name in saved:
        del sys.modules[name]
    sys.modules |= {
        "minseg": package,
        "minseg.nn": nn,
        "minseg.functional": torch.nn.functional,
        "minseg.tensor": tensor,
        "minseg.joining": joining,
    }
    try:
        return importlib.import_module("minseg.models")
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules |= saved


def _in_turn(input: Any, *modules: Any) -> Any:
    """minseg.nn.in_turn, as PyTorch computes it: module after module."""
    for module in modules:
        input = module(input)
    return input
