"""What `import minseg` costs: no plotting, no other heavy library, little time beside NumPy's."""

import subprocess
import sys


def seconds(statement: str) -> float:
    """Of CPU time, which other processes do not lengthen as they do the time on the clock."""
    printed = f"{statement}; import time; print(time.process_time())"
    out = subprocess.run([sys.executable, "-c", printed], capture_output=True, check=True)
    return float(out.stdout)


def test_import_loads_no_heavy_library():
    heavy = {"matplotlib", "PIL", "rich", "safetensors", "threadpoolctl", "cupy", "torch"}
    statement = f"import sys, minseg; print(*({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", statement], capture_output=True, check=True)
    assert out.stdout.split() == []


def test_import_takes_at_most_half_as_long_again_as_numpy():
    # The fastest of several, in turn: the work itself, its files in the system's cache.
    pairs = [(seconds("import numpy"), seconds("import minseg")) for _ in range(7)]
    numpy, minseg = (min(times) for times in zip(*pairs, strict=True))
    assert minseg <= 1.5 * numpy
