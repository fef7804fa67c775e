"""What all optimizers share: parameter groups, the state of each parameter, the step."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.device import to_device
from minseg.ops.op import Op
from minseg.optim.together import Update, run_all
from minseg.tensor import Tensor

Params = Iterable[Tensor] | Iterable[dict[str, Any]]


class Optimizer:
    """Updates parameters, in place, by their gradients.

    Args:
        params: parameters, which share no memory, or groups of them, as dicts:
            {"params": parameters, option: value, ..}.
        defaults: the options, where a group does not give its own.

    Attributes: `param_groups`, a list of such dicts with all options; `state`, parameter -> dict of
    arrays and numbers.

    A subclass has an `op`, whose function "update" changes a parameter in place.

    Raises ValueError without a parameter, or for one that is given twice or is not a leaf;
    TypeError for a parameter that is not a Tensor, or for one alone, outside of a list.
    """

    op: Op

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        if isinstance(params, dict | Tensor) or not isinstance(params, Iterable):
            name, kind = type(self).__name__, type(params).__name__
            raise TypeError(
                f"{name}: params is a {kind}, needs an iterable of parameters or groups"
            )
        given: list[Any] = list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters to be updated, with options of their own."""
        name = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{name}: a group is {type(group).__name__}, needs a dict with params")
        unknown = sorted(set(group) - {"params", "initial_lr", *self.defaults})
        if unknown:
            raise ValueError(f"{name}: no option {unknown[0]!r}; it has {sorted(self.defaults)}")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if not params:
            raise ValueError(f"{name}: got a group without parameters")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: a parameter is a {type(p).__name__}, needs a Tensor")
            if p._op:
                raise ValueError(f"{name}: a parameter of shape {p.shape} is made by {p._op}")
            if id(p) in known:
                raise ValueError(f"{name}: a parameter of shape {p.shape} is given twice")
            known.add(id(p))
        options = {**self.defaults, **group, "params": params}
        self.check(options)
        self.param_groups.append(options)

    def check(self, options: dict[str, Any]) -> None:
        """Raise ValueError for an option that makes no sense."""
        raise NotImplementedError

    def update(
        self, p: Tensor, grad: Array, state: dict[str, Any], group: dict[str, Any]
    ) -> Update:
        """The arguments of `op.update`, which changes one parameter, and its state, in place."""
        raise NotImplementedError

    def step(self) -> None:
        """Update each parameter that has a gradient: against it, or, with `maximize`, along it.

        Raises ValueError, and changes nothing, if a gradient has another shape.
        """
        for p in self._parameters():
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(
                    f"{type(self).__name__}: a parameter of shape {p.shape} has a gradient of "
                    f"shape {p.grad.shape}"
                )
        for group in self.param_groups:
            updates = []
            for p in group["params"]:
                if p.grad is not None:
                    p.data = p.data if p.data.flags.c_contiguous else p.data.copy()
                    grad = -p.grad.data if group.get("maximize") else p.grad.data
                    updates.append(self.update(p, grad, self.state.setdefault(p, {}), group))
            run_all(self.op, updates)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients; or set them to 0: then `step` still updates these parameters."""
        for p in self._parameters():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.data[...] = 0

    def state_dict(self) -> dict[str, Any]:
        """{"state": number of the parameter -> its state, "param_groups": options and numbers}.

        All arrays are copies, in NumPy. A later run needs no more to go on exactly.
        """
        numbers = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "state": {
                numbers[id(p)]: {name: _to_plain(value) for name, value in state.items()}
                for p, state in self.state.items()
            },
            "param_groups": [
                {**group, "params": [numbers[id(p)] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()` of an optimizer of the same parameters, in the same order.

        Raises ValueError, and changes nothing, where groups, options or shapes differ.
        """
        name, parameters = type(self).__name__, self._parameters()
        absent = [key for key in ("state", "param_groups") if key not in state_dict]
        if absent:
            raise ValueError(f"{name}: state_dict has no {absent[0]!r}")
        sizes = [len(group["params"]) for group in self.param_groups]
        given = [len(group["params"]) for group in state_dict["param_groups"]]
        if sizes != given:
            raise ValueError(f"{name}: state_dict has groups of {given} parameters, needs {sizes}")
        for saved in state_dict["param_groups"]:
            unknown = sorted(set(saved) - {"params", "initial_lr", *self.defaults})
            if unknown:
                raise ValueError(
                    f"{name}: state_dict is another optimizer's: it has {unknown[0]!r}"
                )
        state = {}
        for number, values in state_dict["state"].items():
            if not 0 <= int(number) < len(parameters):
                raise ValueError(f"{name}: state_dict has parameter {number} of {len(parameters)}")
            p = parameters[int(number)]
            for key, value in values.items():
                if isinstance(value, np.ndarray) and value.shape != p.shape:
                    raise ValueError(
                        f"{name}: state_dict has {key} of shape {value.shape} for parameter "
                        f"{number}, needs {p.shape}"
                    )
            state[p] = {key: _to_state(value, p) for key, value in values.items()}
        self.state = state
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def check_at_least_zero(optimizer: str, options: dict[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(options[name], int | float | np.number):
            raise TypeError(f"{optimizer}: {name} is {options[name]!r}, needs a number")
        if not options[name] >= 0:
            raise ValueError(f"{optimizer}: {name} is {options[name]}, needs at least 0")


def _to_plain(value: Any) -> Any:
    return np.array(to_device(value, "cpu")) if hasattr(value, "shape") else value


def _to_state(value: Any, p: Tensor) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return to_device(np.array(value, p.dtype, order="C"), p.device)
