"""`minseg compare`: every op as computed by each of its witnesses, against a float64 reference.

The witnesses are the definition in loops, NumPy, the CUDA kernels in the emulator and on a GPU,
and PyTorch (`witnesses.py`). They compute the cases in `cases/`. A `Row` (`row.py`) says how large
a witness's error is, at which element, whether it is within the tolerance, how long the witness
took, and how near that is to the least possible time (`floors.py`).
"""

from minseg.compare.row import Row
from minseg.compare.run import Comparison, compare

__all__ = ["Comparison", "Row", "compare"]
