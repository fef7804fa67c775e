"""The check of a network's input that also holds where the bench runs these files on PyTorch."""

from minseg.tensor import Tensor


def check_images(network: str, x: Tensor) -> None:
    """Raise ValueError, in the words of the ops' own checks, unless x is (N, C, H, W)."""
    if x.ndim != 4:
        hint = "; a single image needs a batch axis: x[None]" if x.ndim == 3 else ""
        shape = tuple(x.shape)
        raise ValueError(
            f"{network}: input has shape {shape}, needs 4 dimensions (N, C, H, W){hint}"
        )
