"""`minseg compare`: every op by all of its witnesses, against float64 and within a tolerance.

The witnesses are the definition in loops, NumPy, the CUDA kernels in the emulator and on a GPU,
and PyTorch (`witnesses.py`); what they compute are cases (`cases/`). A `Row` (`row.py`) says how
far one of them is off, at which element, how long it took, and how near to the least possible time
that is (`floors.py`).
"""

from minseg.compare.row import Row
from minseg.compare.run import Comparison, compare

__all__ = ["Comparison", "Row", "compare"]
