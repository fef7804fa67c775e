"""Makes golden_coco.json: COCO's own answers (pycocotools), for the codec and the rasteriser.

Run from the checkout, with pycocotools installed: python tests/data/make_golden_coco.py
"""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco


def main() -> None:
    generator = np.random.default_rng(0)
    polygons, masks = [], []
    for case in range(60):
        height, width = generator.integers(1, 40, 2).tolist()
        corners = int(generator.integers(3, 9))
        # Inside and outside of the image; on fractions, on whole and on half pixels.
        points = generator.uniform(-6, max(height, width) + 6, 2 * corners)
        points = [points, np.round(points), np.round(2 * points) / 2][case % 3].round(2).tolist()
        encoded = coco.merge(coco.frPyObjects([points], height, width))
        polygons.append([points, [height, width], encoded["counts"].decode()])
    for case in range(30):
        height, width = generator.integers(1, 40, 2).tolist()
        mask = generator.random((height, width)) < [0.5, 0.02, 0.98][case % 3]
        if case % 5 == 0:  # blobs, so that columns are alike
            y, x = np.mgrid[:height, :width]
            mask = np.hypot(y - height / 2, x - width / 3) < min(height, width) / 2
        encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        rows = ["".join("01"[int(value)] for value in row) for row in mask]
        masks.append([rows, encoded["counts"].decode()])
    path = Path(__file__).with_name("golden_coco.json")
    path.write_text(json.dumps({"polygons": polygons, "masks": masks}, indent=0))


if __name__ == "__main__":
    main()
