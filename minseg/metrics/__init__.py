"""Scores of a segmentation, counted batch by batch."""

from minseg.metrics.boundary import BoundaryF, BoundaryIoU
from minseg.metrics.confusion import ConfusionMatrix, PerClass
from minseg.metrics.instances import InstanceAP, connected_components, match_instances

__all__ = [
    "BoundaryF",
    "BoundaryIoU",
    "ConfusionMatrix",
    "InstanceAP",
    "PerClass",
    "connected_components",
    "match_instances",
]
