"""The map of minseg/ops/fast, in its docstring."""

import re
from pathlib import Path

from minseg.ops import fast


def test_it_names_every_module():
    files = {path.stem for path in Path(fast.__file__).parent.glob("*.py")} - {"__init__"}
    assert files <= set(re.findall(r"\w+", fast.__doc__))
