"""minseg: segmentation networks from scratch, down to the last line and the last GPU thread."""

from minseg.device import to_device
from minseg.gradcheck import gradcheck
from minseg.joining import cat, split, stack
from minseg.memory import keep_freed_memory
from minseg.ops.op import override, use_kernels
from minseg.parallel import get_num_threads, set_num_threads
from minseg.random import manual_seed
from minseg.tape import no_grad
from minseg.tensor import Tensor

__version__ = "0.1.0"

keep_freed_memory()

__all__ = [
    "Tensor",
    "cat",
    "get_num_threads",
    "gradcheck",
    "manual_seed",
    "no_grad",
    "override",
    "set_num_threads",
    "split",
    "stack",
    "to_device",
    "use_kernels",
]
