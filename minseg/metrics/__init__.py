"""How good a segmentation is: scores that take one batch after the other."""

from minseg.metrics.boundary import BoundaryF, BoundaryIoU
from minseg.metrics.confusion import ConfusionMatrix, PerClass

__all__ = ["BoundaryF", "BoundaryIoU", "ConfusionMatrix", "PerClass"]
