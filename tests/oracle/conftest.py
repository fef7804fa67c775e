"""Tests against PyTorch, the oracle: left out where it is not installed.

python -m pip install -e ".[oracle]" && pytest tests/oracle
"""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
