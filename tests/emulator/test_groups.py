"""Cooperative groups: what they compute, and that the sanitizer knows their barriers."""

from pathlib import Path

import numpy as np
import pytest

from minseg import kernels
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitize

GROUPS = Path(__file__).parent / "fixtures" / "groups.cu"
rng = np.random.default_rng(4)


def test_sums_over_blocks_and_tiles():
    x, y = rng.integers(0, 99, 128).astype(np.int32), np.empty((2, 3), np.int32)
    kernels.launch(f"{GROUPS}:sums", x, y)
    of_block = x.reshape(2, 64)
    assert y[:, 0].tolist() == y[:, 2].tolist() == of_block.sum(1).tolist()
    assert y[:, 1].tolist() == of_block[:, 4:8].sum(1).tolist()


def test_what_lanes_do_within_their_tile():
    x, y = rng.integers(0, 9, 64).astype(np.int32), np.empty((8, 64), np.int32)
    kernels.launch(f"{GROUPS}:lanes", x, y)
    tiles, rank = x.reshape(8, 8), np.arange(8)
    down, up, xor, sixth, ballot, votes, largest, place = y.reshape(8, 8, 8)
    assert (down == tiles[:, np.where(rank < 5, rank + 3, rank)]).all()
    assert (up == tiles[:, np.where(rank > 2, rank - 3, rank)]).all()
    assert (xor == tiles[:, rank ^ 5]).all()
    assert (sixth == tiles[:, 6:7]).all()
    assert (ballot == ((tiles > 4) @ (1 << rank))[:, None]).all()
    assert (
        votes == 2 * (tiles > 7).any(1, keepdims=True) + (tiles > 0).all(1, keepdims=True)
    ).all()
    assert (largest == tiles.max(1, keepdims=True)).all()
    odd = x.reshape(2, 32) % 2
    last = (odd * np.arange(64).reshape(2, 32)).max(1, keepdims=True)
    expected = np.where(odd, 100 * last + odd.cumsum(1) - 1, -1)
    assert (place.reshape(2, 32) == expected).all()


@pytest.mark.parametrize("kernel", kernels.find(str(GROUPS)), ids=lambda k: k.name)
def test_sound_kernels_have_no_findings(kernel):
    for name, arguments in samples(kernel):
        assert not sanitize(name, *arguments)


@pytest.mark.parametrize("barrier", ["g.sync();  // before", "g.sync();  // after"])
def test_every_barrier_of_a_group_is_needed(barrier, tmp_path):
    file = tmp_path / "groups.cu"
    text = GROUPS.read_text()
    file.write_text(text.replace(barrier, "//", 1))
    findings = sanitize(f"{file}:sums", np.ones(128, np.int32), np.empty((2, 3), np.int32))
    assert {(f.kind, f.variable) for f in findings} >= {("racecheck", "temp")}
    line = next(i for i, s in enumerate(text.split("\n"), 1) if "temp[rank + i]" in s)
    assert any(line in (f.now.line, f.before.line) for f in findings if f.before)
