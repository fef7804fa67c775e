import io
import os
import subprocess
import sys
from functools import partial

import pytest

from minseg.memory import limit_memory, total_memory

SCRIPT = """
import resource
import numpy as np
import minseg

def faults_of_a_round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(20_000_000, np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults_of_a_round()
print(first, faults_of_a_round())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells the GNU C library only")
def test_freed_arrays_are_recycled_without_page_faults():
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    _, second = map(int, out.stdout.split())
    assert second < 4 * 20_000_000 / 4096 / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux promises too much")
def test_too_much_memory_is_an_error_not_a_kill():
    script = (
        "import resource, sys, numpy as np\n"
        "from minseg.memory import limit_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (int(2e9), resource.RLIM_INFINITY))\n"
        "assert limit_memory()\n"
        "soft, _ = resource.getrlimit(resource.RLIMIT_DATA)\n"
        "assert 0 < soft <= 2e9  # what free memory there is, but no more than was allowed\n"
        "try:\n"
        "    np.empty(int(2e9), np.uint8)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "refused\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux promises too much")
def test_a_command_may_use_what_is_free_whatever_others_before_it_hold():
    script = (
        "import builtins, io, numpy as np\n"
        "from minseg import memory\n"
        "free = 'MemAvailable: 300000 kB\\nSwapFree: 0 kB\\n'\n"
        "real = builtins.open\n"
        "memory.open = lambda file: io.StringIO(free) if 'meminfo' in str(file) else real(file)\n"
        "held = []\n"
        "for command in range(4):\n"
        "    assert memory.limit_memory()\n"
        "    held.append(np.empty(200_000_000, np.uint8))\n"
        "try:\n"
        "    np.empty(200_000_000, np.uint8)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "refused\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's control groups")
@pytest.mark.parametrize(
    ("membership", "group", "files"),
    [
        ("0::/a/b", "a/b", ("memory.max", "memory.current", "inactive_file")),
        ("0::/a/b", "a", ("memory.max", "memory.current", "inactive_file")),
        ("0::/../../seen/from/within", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "7:pids:/other\n4:cpu,memory:/a\n0::/",
            "memory/a",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
    ids=["own group", "group above", "from within", "version 1"],
)
def test_a_container_leaves_less_than_the_machine_has(membership, group, files, tmp_path):
    limit, used, cache = files
    folder = tmp_path / "groups" / group
    folder.mkdir(parents=True)
    (folder / limit).write_text("500000000\n")
    (folder / used).write_text("300000000\n")
    (folder / "memory.stat").write_text(f"anon 7\n{cache} 100000000\n")
    if group:
        (tmp_path / "groups" / limit).write_text("max\n")
    (tmp_path / "own").write_text(membership)
    script = (
        "import pathlib, resource\n"
        "from minseg import cgroups, memory\n"
        "cgroups.ROOT, cgroups.OWN = pathlib.Path('groups'), 'own'\n"
        "held = memory._listed('/proc/self/status', 'VmData')\n"
        "assert memory.limit_memory()\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0] - held)\n"
    )
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    left = int(run([sys.executable, "-c", script], cwd=tmp_path).stdout)
    assert abs(left - 300_000_000) < 20_000_000


def test_a_sandbox_that_does_not_say_what_is_free_sets_no_limit(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda path: io.StringIO("MemTotal:  100 kB\n"))
    assert not limit_memory()


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="Linux lists its memory there")
def test_total_memory_is_what_the_system_lists():
    with open("/proc/meminfo") as lines:
        listed = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    assert total_memory() == listed * 1024
