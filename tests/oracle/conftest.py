"""Tests against PyTorch, the oracle. Where it is not installed they are left out, and it is said."""

import importlib.util

HAS_TORCH = importlib.util.find_spec("torch") is not None

collect_ignore_glob = [] if HAS_TORCH else ["test_*.py"]


def pytest_report_header() -> str:
    if HAS_TORCH:
        return "tests/oracle: against PyTorch"
    return 'tests/oracle: left out, PyTorch is not installed (pip install -e ".[oracle]")'
