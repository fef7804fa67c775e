"""The networks: one file a family, each to be read beside its paper."""

from minseg.models.fcn import FCN
from minseg.models.registry import build, list_models
from minseg.models.unet import UNet

__all__ = ["FCN", "UNet", "build", "list_models"]
