"""A picture of where the lanes of a warp access global memory, and which sectors that moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minseg.emulator.profile import SECTOR, Access, Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 32  # sectors in a row of the picture


def draw_warp(profile: Profile) -> Figure:
    """One panel for each line of the kernel that accesses an array in global memory.

    It shows a warp's first request there. Each small square is a sector of 32 bytes; its colour is
    the lane that needs it (the last of several), grey if the request does not move it. Few dense
    rows are good; scattered squares are bytes moved for nothing.

    ValueError if the kernel touches no global memory.
    """
    from matplotlib.figure import Figure

    accesses = [a for a in profile.accesses if not a.shared]
    if not accesses:
        raise ValueError(f"{profile.kernel}: no access to global memory to draw")
    figure = Figure(figsize=(7, 1.3 * len(accesses) + 0.9), layout="constrained")
    figure.suptitle(f"{profile.kernel}: the first request of a warp at each line")
    figure.supxlabel(
        f"a box: {SECTOR} bytes, moved as one; its colour: the lane that needs them, 0 dark, "
        "31 bright; grey: not moved",
        fontsize=9,
    )
    for axes, access in zip(
        figure.subplots(len(accesses), squeeze=False)[:, 0], accesses, strict=True
    ):
        axes.set_facecolor("0.9")  # for sectors that are not moved
        axes.imshow(_sectors(access), cmap="viridis", vmin=0, vmax=31, aspect="auto")
        axes.set_title(
            f"line {access.line}: {access.kind} {access.array}, {access.bytes} bytes a lane, "
            f"{access.sectors_a_request:.1f} sectors a request on average",
            fontsize=9,
            loc="left",
        )
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _sectors(access: Access) -> np.ndarray:
    """Rows of sectors around the request; the lane that needs each, NaN where none does."""
    offsets = [offset for offset in access.example if offset >= 0]
    first = min(offsets) // SECTOR
    last = (max(offsets) + access.bytes - 1) // SECTOR
    rows = min((last - first) // ROW + 1, 64)
    picture = np.full(rows * ROW, np.nan)
    for lane, offset in enumerate(access.example):
        if offset < 0:
            continue
        for sector in range(offset // SECTOR, (offset + access.bytes - 1) // SECTOR + 1):
            if sector - first < picture.size:
                picture[sector - first] = lane
    return picture.reshape(rows, ROW)
