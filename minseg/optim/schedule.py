"""Learning-rate schedules: the learning rate as a function of the number of steps.

Each is a formula, lr_at(step), without any other state. So a schedule resumes from the number of
its steps alone, and SequentialLR can ask each schedule for any step. Create it with the optimizer,
and call `step()` after each step (or epoch) of training.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from minseg.optim.optimizer import Optimizer


class Schedule:
    """Sets the learning rates of an optimizer; `base_lrs` are those that it had at first."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            kind = type(optimizer).__name__
            raise TypeError(f"{type(self).__name__}: optimizer is a {kind}, needs an Optimizer")
        self.optimizer = optimizer
        groups = optimizer.param_groups
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in groups]
        self.last_epoch = 0
        self._set()

    def lr_at(self, step: int, group: int) -> float:
        """The learning rate of a parameter group after `step` steps."""
        raise NotImplementedError

    def step(self) -> None:
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self._set()

    def _set(self) -> None:
        for i, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.lr_at(self.last_epoch, i)


class LambdaLR(Schedule):
    """lr = base lr * lr_lambda(step); a function, or one for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            given = len(self.lr_lambdas)
            raise ValueError(f"LambdaLR: {given} functions for {groups} parameter groups")
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        return self.base_lrs[group] * self.lr_lambdas[group](step)


class StepLR(Schedule):
    """lr is multiplied by gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _check_positive("StepLR", "step_size", step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        return self.base_lrs[group] * self.gamma ** (step // self.step_size)


class MultiStepLR(Schedule):
    """lr is multiplied by gamma at each of the milestones."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        return self.base_lrs[group] * self.gamma ** bisect_right(self.milestones, step)


class LinearLR(Schedule):
    """lr times a factor that rises linearly from start_factor to end_factor: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        _check_positive("LinearLR", "total_iters", total_iters)
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise ValueError(
                f"LinearLR: factors are {start_factor} and {end_factor}, need to be in [0, 1], "
                "the first above 0"
            )
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        done = min(step / self.total_iters, 1)
        return self.base_lrs[group] * (
            self.start_factor + (self.end_factor - self.start_factor) * done
        )


class PolyLR(Schedule):
    """lr times (1 - step / total_iters)^power: DeepLab's schedule, with power 0.9."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        _check_positive("PolyLR", "total_iters", total_iters)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        left = 1 - min(step / self.total_iters, 1)
        return self.base_lrs[group] * left**self.power


PolynomialLR = PolyLR  # PyTorch's name


class CosineAnnealingLR(Schedule):
    """Half a cosine, from the base lr to eta_min in T_max steps (and up again after them).

    Source: Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        _check_positive("CosineAnnealingLR", "T_max", T_max)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        return _cosine(self.base_lrs[group], self.eta_min, step / self.T_max)


class OneCycleLR(Schedule):
    """Up from start = max_lr / div_factor to max_lr, then down to start / final_div_factor.

    The rise takes `pct_start` of the steps. With `three_phase`, the fall takes as many back to the
    start, and the rest to the end. With `cycle_momentum`, momentum (or Adam's beta1) falls from
    max_momentum to base_momentum while the learning rate rises, and comes back.

    Source: Smith & Topin, "Super-convergence", 2018
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        self.total_steps = total_steps or (epochs or 0) * (steps_per_epoch or 0)
        _check_positive("OneCycleLR", "total_steps, or epochs * steps_per_epoch,", self.total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start is {pct_start}, needs to be in [0, 1]")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'OneCycleLR: anneal_strategy is {anneal_strategy!r}, needs "cos" or "linear"'
            )
        groups = optimizer.param_groups
        if cycle_momentum and not all("betas" in g or "momentum" in g for g in groups):
            raise ValueError("OneCycleLR: cycle_momentum needs momentum or betas in the optimizer")
        self.max_lrs = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * len(groups)
        if len(self.max_lrs) != len(groups):
            given = len(self.max_lrs)
            raise ValueError(f"OneCycleLR: {given} max_lr for {len(groups)} parameter groups")
        self.anneal = _cosine if anneal_strategy == "cos" else _line
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        rise = pct_start * self.total_steps - 1
        self.ends = (
            [rise, 2 * rise, self.total_steps - 1] if three_phase else [rise, self.total_steps - 1]
        )
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        top = self.max_lrs[group]
        start = top / self.div_factor
        back = [start] if len(self.ends) == 3 else []
        return self._between([start, top, *back, start / self.final_div_factor], step)

    def _set(self) -> None:
        super()._set()
        if not self.cycle_momentum:
            return
        high, low = self.max_momentum, self.base_momentum
        back = [high] if len(self.ends) == 3 else []
        momentum = self._between([high, low, *back, high], self.last_epoch)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum

    def _between(self, values: list[float], step: int) -> float:
        """The value at `step` on the way through `values`, each reached at the step in `ends`."""
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} of {self.total_steps}")
        phase = next((i for i, end in enumerate(self.ends) if step <= end), len(self.ends) - 1)
        begin, end = (self.ends[phase - 1] if phase else 0), self.ends[phase]
        done = (step - begin) / (end - begin) if end != begin else 1.0
        return self.anneal(values[phase], values[phase + 1], done)


class SequentialLR(Schedule):
    """Schedules one after another: the i-th ends at milestones[i], where the next begins at 0."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]
    ) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers and milestones {list(milestones)}, "
                f"needs {len(schedulers) - 1} milestones, increasing"
            )
        if any(schedule.optimizer is not optimizer for schedule in schedulers):
            raise ValueError("SequentialLR: a schedule belongs to another optimizer")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int) -> float:
        current = bisect_right(self.milestones, step)
        begin = self.milestones[current - 1] if current else 0
        return self.schedulers[current].lr_at(step - begin, group)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _line(start: float, end: float, done: float) -> float:
    return start + (end - start) * done


def _check_positive(schedule: str, name: str, value: int) -> None:
    if not value > 0:
        raise ValueError(f"{schedule}: {name} is {value}, needs to be positive")
