import os
import subprocess
import sys

import pytest

from minseg import cgroups
from minseg.cores import cores_to_use


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "150000 100000\n"}, 2),  # docker run --cpus=1.5
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/../../seen/from/within", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/a", {"a/cpu.max": "9900000 100000\n"}, 16),
        ("0::/a", {"a/cpu.max": "max 100000\n"}, 16),
        ("0::/a", {"a/cpu.max": "something else\n"}, 16),
        ("0::/a", {}, 16),
        (
            "7:pids:/other\n4:cpu,cpuacct:/a\n0::/",
            {"cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "4:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            16,
        ),
    ],
)
def test_of_16_cores_a_container_uses_its_share_rounded_up(
    membership, files, cores, tmp_path, monkeypatch
):
    (tmp_path / "own").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "groups")
    monkeypatch.setattr(cgroups, "OWN", str(tmp_path / "own"))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 16, raising=False)
    assert cores_to_use() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_cores_that_this_process_may_not_run_on_do_not_count():
    script = (
        "import os; os.sched_setaffinity(0, {%d}); import minseg; print(minseg.get_num_threads())"
    )
    script %= min(os.sched_getaffinity(0))
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "1\n"
