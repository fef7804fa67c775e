"""Optimizers, learning-rate schedules and gradient clipping, with PyTorch's names and results."""

from minseg.optim.adam import Adam, AdamW
from minseg.optim.clip import clip_grad_norm_, clip_grad_value_
from minseg.optim.optimizer import Optimizer
from minseg.optim.schedule import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolyLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
)
from minseg.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "PolyLR",
    "PolynomialLR",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
