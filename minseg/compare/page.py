"""The page that `--html` writes: a single file, images included."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from itertools import groupby

import numpy as np
from PIL import Image

from minseg.compare.report import explain, summary
from minseg.compare.row import Row
from minseg.compare.run import Comparison
from minseg.compare.tables import AGREEMENT, FIRST, SPEED, cells_of

LEAST = 1e-3  # of the tolerance: smaller errors are drawn as none
COLOURS = np.array(  # for no error, then from LEAST to 1 of the tolerance
    [(244, 244, 240), (222, 230, 235), (170, 200, 220), (110, 165, 200), (55, 115, 170),
     (20, 60, 120)],
    float,
)  # fmt: skip
TOO_LARGE = (213, 60, 0)
SIDE = 150  # pixels of the page, for the longer side of a map

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem;
       color: #1d2330; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; font-family: monospace }
h3 { font-size: .85rem; font-weight: 400; font-family: monospace; margin: 1.2rem 0 .3rem }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .12rem .7rem .12rem 0; white-space: nowrap }
th { font-weight: 600; border-bottom: 1px solid #bbb } td:nth-child(-n+3), th:nth-child(-n+3),
.left { text-align: left } .ok { color: #17733b } .reference { color: #888 }
.FAIL { color: #d53c00; font-weight: 700 } tr.bad td { background: #fdeee6 }
.maps { display: flex; flex-wrap: wrap; gap: 1rem; margin: .6rem 0 }
figure { margin: 0; width: 160px }
.maps img { image-rendering: pixelated; border: 1px solid #ccc; display: block }
figcaption { font-size: .75rem; color: #555 } nav a { margin-right: .8rem }
.scroll { overflow-x: auto } pre { background: #f6f6f4; padding: .8rem; overflow-x: auto }
.scale span { white-space: nowrap; margin-right: .8rem }
.scale i { display: inline-block; width: 2rem; height: .8rem; border: 1px solid #ccc }
"""


def to_html(result: Comparison) -> str:
    """The whole comparison as a page: verdict, failures, and for each op its maps and its rows."""
    failed, count = result.failed, len(result.rows)
    verdict = f"{len(failed)} of {count} comparisons FAIL" if failed else f"all {count} agree"
    ops = [(op, list(rows)) for op, rows in groupby(result.rows, lambda row: row.op)]
    links = [
        f'<a href="#{escape(op)}" class="{"FAIL" if any(r.failed for r in rows) else "ok"}">'
        f"{escape(op)}</a>"
        for op, rows in ops
    ]
    faults = [f"<li>{escape(explain(row))}</li>" for row in failed]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>minseg compare: {verdict}</title><style>{STYLE}</style></head><body>",
            f'<h1>minseg compare: <span class="{"FAIL" if failed else "ok"}">{verdict}</span></h1>',
            *(f"<div>{escape(line)}</div>" for line in summary(result)),
            f"<ul>{''.join(faults)}</ul>" if faults else "",
            *(f"<pre>{escape(str(finding))}</pre>" for finding in result.findings),
            _scale(),
            f"<nav>{' '.join(links)}</nav>",
            *(_section(op, rows) for op, rows in ops),
            "</body></html>\n",
        ]
    )


def _section(op: str, rows: list[Row]) -> str:
    parts = [f'<h2 id="{escape(op)}">{escape(op)}</h2>', _maps(rows)]
    for shape, of_case in groupby(rows, lambda row: row.shape):
        parts += [f"<h3>{escape(shape)}</h3>", _table(of_case)]
    return "\n".join(parts)


def _table(rows: Iterable[Row]) -> str:
    columns = (*FIRST, *AGREEMENT, *SPEED)
    heads = "".join(f"<th>{escape(head)}</th>" for head in (*columns, ""))
    lines = []
    for row in rows:
        cells = cells_of(row)
        line = "".join(f"<td>{escape(cells[column])}</td>" for column in columns)
        line += f'<td class="{row.verdict}">{row.verdict}</td>'
        lines.append(f"<tr{' class=bad' if row.failed else ''}>{line}</tr>")
    return f'<div class="scroll"><table><tr>{heads}</tr>{"".join(lines)}</table></div>'


def _maps(rows: list[Row]) -> str:
    """Maps of the worst row of each part and witness: where in the image the error is."""
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.part, row.witness)
        drawn = row.map is not None and row.verdict != "reference"
        if drawn and (key not in worst or row.ratio > worst[key].ratio):
            worst[key] = row
    figures = [
        f'<figure><img {_image(row.map)} alt="{escape(f"{row.part}, {row.witness}")}">'
        f"<figcaption>{escape(row.part)}, {escape(row.witness)}, {row.dtype}<br>"
        f"worst {cells_of(row)['of it']} at {cells_of(row)['worst at']}</figcaption></figure>"
        for row in worst.values()
        if row.map is not None
    ]
    return f'<div class="maps">{"".join(figures)}</div>'


def _image(ratios: np.ndarray | None) -> str:
    assert ratios is not None
    height, width = ratios.shape
    file = io.BytesIO()
    Image.fromarray(_colours(ratios)).save(file, "png")
    scale = SIDE / max(height, width)
    size = f'width="{max(4, round(width * scale))}" height="{max(4, round(height * scale))}"'
    return f'src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}" {size}'


def _colours(ratios: np.ndarray) -> np.ndarray:
    """Light to dark blue on a logarithmic scale up to the tolerance, red above it."""
    depth = np.log(np.maximum(ratios, LEAST) / LEAST) / -np.log(LEAST)
    place = np.clip(depth, 0, 1) * (len(COLOURS) - 1)
    stops = np.arange(len(COLOURS))
    rgb = np.stack([np.interp(place, stops, channel) for channel in COLOURS.T], axis=-1)
    rgb[~(ratios <= 1)] = TOO_LARGE
    return rgb.round().astype(np.uint8)


def _scale() -> str:
    ratios = np.array([LEAST, 0.01, 0.1, 1, 2])
    names = (f"{LEAST} or less", "0.01", "0.1", "1", "too large")
    boxes = [
        f'<span><i style="background: rgb({r},{g},{b})"></i> {name}</span>'
        for (r, g, b), name in zip(_colours(ratios), names, strict=True)
    ]
    return (
        '<p class="scale">Maps: the largest error at each row and column of the last two '
        f"dimensions, in units of the tolerance: {' '.join(boxes)}</p>"
    )
