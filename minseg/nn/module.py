"""Module: a part of a network, which knows its parameters, its buffers and its sub-modules.

Nothing is registered. A module finds its parts by looking at its own attributes: a Parameter is a
parameter, a Module is a child, and a Tensor whose name `register_buffer` noted is a buffer. Names
are paths of attributes, "encoder.0.weight", the same as PyTorch's.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minseg.array import FLOATS
from minseg.device import to_device
from minseg.tensor import Tensor

Hook = Callable[["Module", tuple, Any], Any]
M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A Tensor that a module learns."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class HookHandle:
    """Takes a forward hook away again."""

    def __init__(self, module: "Module", key: object) -> None:
        self._module, self._key = module, key

    def remove(self) -> None:
        hooks = self._module._forward_hooks.items()
        self._module._forward_hooks = {key: hook for key, hook in hooks if key is not self._key}


class Module:
    """Base class of layers and networks: assign the parts in `__init__`, compute in `forward`."""

    # Class attributes that are replaced in an instance and never changed in place, so that a
    # subclass that forgets super().__init__() works too.
    training: bool = True
    _buffers: Mapping[str, bool] = MappingProxyType({})  # name -> is it part of the state?
    _forward_hooks: Mapping[object, Hook] = MappingProxyType({})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.forward(*args, **kwargs)
        for hook in self._forward_hooks.values():
            replaced = hook(self, args, out)
            out = out if replaced is None else replaced
        return out

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call hook(module, arguments, output) after each forward.

        What the hook returns, unless None, takes the output's place. `remove()` of the handle that
        this returns takes the hook away.
        """
        key = object()
        self._forward_hooks = {**self._forward_hooks, key: hook}
        return HookHandle(self, key)

    # -- parts -------------------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        """A part becomes another of its kind, or None; else it would be lost without a word."""
        old = vars(self).get(name)
        kind: type | None = Tensor if name in self._buffers else None
        if isinstance(old, Parameter | Module):
            kind = Parameter if isinstance(old, Parameter) else Module
        if kind and value is not None and not isinstance(value, kind):
            raise TypeError(
                f"{type(self).__name__}: {name} is a {type(value).__name__}, needs a "
                f"{kind.__name__} or None"
            )
        super().__setattr__(name, value)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a tensor that is not learnt, as attribute `name`; in `state_dict` if persistent."""
        _check_name(self, name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: {name} is a {type(tensor).__name__}, needs a Tensor")
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, tensor)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """The same as assigning it, with name and type checked."""
        _check_name(self, name)
        if parameter is not None and not isinstance(parameter, Parameter):
            kind = type(parameter).__name__
            raise TypeError(f"register_parameter: {name} is a {kind}, needs a Parameter or None")
        setattr(self, name, parameter)

    def add_module(self, name: str, module: "Module") -> None:
        """The same as assigning it, with name and type checked: for names made by a program."""
        if not isinstance(module, Module):
            raise TypeError(f"add_module: {name} is a {type(module).__name__}, needs a Module")
        _check_name(self, name)
        setattr(self, name, module)

    @property
    def _modules(self) -> dict[str, "Module"]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        return _once(self._modules.items())

    def children(self) -> Iterator["Module"]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, each once, parents first."""
        return _once(self._paths(prefix))

    def modules(self) -> Iterator["Module"]:
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters, each once, even where several names lead to it."""
        paths = self._paths(prefix) if recurse else [(prefix, self)]
        return _once(item for path, module in paths for item in module._own_parameters(path))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        paths = self._paths(prefix) if recurse else [(prefix, self)]
        return _once(item for path, module in paths for item in module._own_buffers(path))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _paths(self, prefix: str) -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, under every name that leads there."""
        yield prefix, self
        for name, child in self._modules.items():
            yield from child._paths(_join(prefix, name))

    def _own_parameters(self, path: str) -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield _join(path, name), value

    def _own_buffers(self, path: str, kinds: tuple = (True, False)) -> Iterator[tuple[str, Tensor]]:
        for name, persistent in self._buffers.items():
            value = vars(self).get(name)
            if value is not None and persistent in kinds:
                yield _join(path, name), value

    # -- state -------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Name -> a copy of the values, as NumPy array, of all parameters and persistent buffers.

        Later training does not change it. A tensor with several names appears under each.
        """
        return {name: np.array(tensor.numpy()) for name, tensor in self._state()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values in, from NumPy arrays, Tensors or torch tensors; dtypes stay the module's.

        With `strict` the names must be those of `state_dict()`, but for `num_batches_tracked`,
        which files from early PyTorch versions lack. Raises one ValueError that lists all missing
        and unexpected names and all arrays of a wrong shape or kind; nothing is loaded then.
        """
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise TypeError(f"load_state_dict: state_dict is a {kind}, needs a dict of arrays")
        own = list(self._state())
        names = {name for name, _ in own}
        missing = [name for name, _ in own if name not in state_dict]
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        unexpected = [name for name in state_dict if name not in names]
        values = {name: _to_numpy(state_dict[name]) for name in names if name in state_dict}
        misfits = [
            f"{name}: got shape {value.shape} {value.dtype}, needs {tensor.shape} {tensor.dtype}"
            for name, tensor in own
            if (value := values.get(name)) is not None
            and not (value.shape == tensor.shape and np.can_cast(value, tensor.dtype, "same_kind"))
        ]
        problems = {"wrong shape or dtype": misfits}
        if strict:
            problems = {"missing": missing, "unexpected": unexpected, **problems}
        if any(problems.values()):
            lines = [f"\n  {what}: {line}" for what, found in problems.items() for line in found]
            raise ValueError(
                f"load_state_dict: {type(self).__name__} loaded nothing, because:{''.join(lines)}"
            )
        for name, tensor in own:
            if name in values:
                tensor.data[...] = to_device(values[name].astype(tensor.dtype), tensor.device)
        return IncompatibleKeys(missing, unexpected)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters and persistent buffers, under every name that leads there."""
        for path, module in self._paths(""):
            yield from module._own_parameters(path)
            yield from module._own_buffers(path, kinds=(True,))

    # -- modes, all returning the module -----------------------------------------------------------
    def train(self: M, mode: bool = True) -> M:
        """Training mode: dropout drops, batch norm uses and tracks the batch's statistics."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Let all parameters learn, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self: M, target: Any) -> M:
        """Move to a device ("cpu", "cuda"), or change the dtype of all that is float, in place."""
        on_device = str(target).startswith(("cpu", "cuda"))
        if not on_device and (target is None or target not in FLOATS):
            raise TypeError(
                f'Module.to: target is {target!r}, needs "cpu", "cuda", "cuda:<number>", float32 '
                "or float64"
            )
        for tensor in [*self.parameters(), *self.buffers()]:
            if on_device or tensor.dtype in FLOATS:
                tensor.data = tensor.detach().to(target).data
                tensor.grad = None if tensor.grad is None else tensor.grad.detach().to(target)
        return self

    def apply(self: M, function: Callable[["Module"], Any]) -> M:
        """Call `function` on every module below, children first, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # -- what it looks like ------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, where attributes of their names exist."""
        shown = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            value = vars(self).get(name, argument.default)
            if isinstance(argument.default, bool) and not isinstance(value, bool):
                value = value is not None  # bias=True became a Parameter
            if isinstance(argument.default, int) and value == (argument.default,) * 2:
                value = argument.default  # padding=0 became (0, 0)
            plain = value is None or isinstance(value, int | float | str | tuple | list)
            if not plain or value == argument.default:
                continue
            required = argument.default is argument.empty
            shown.append(repr(value) if required else f"{name}={value!r}")
        return ", ".join(shown)

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        note = f"  # {count:,} parameters" if count else ""
        lines = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()}){note}"
        inner = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}{note}\n  {inner}\n)"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(named: Any) -> Iterator[tuple[str, Any]]:
    """The pairs whose second part has not come before."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _check_name(module: Module, name: str) -> None:
    """Raise where a name cannot be part of a path, or hides what the module has."""
    if not isinstance(name, str) or not name or "." in name:
        raise ValueError(f"{type(module).__name__}: name is {name!r}, needs a string without dots")
    if hasattr(module, name) and not isinstance(getattr(module, name), Module | Tensor | None):
        raise ValueError(f"{type(module).__name__}: name {name!r} is taken by an attribute")


def _to_numpy(value: Any) -> np.ndarray:
    """A NumPy array of a Tensor's, a torch tensor's or an array's values."""
    if isinstance(value, Tensor):
        return value.numpy()
    if hasattr(value, "detach"):  # torch, without importing it
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)
