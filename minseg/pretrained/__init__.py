"""The weights that come with minseg: a small U-Net, trained on drawn street scenes.

`minseg predict` takes it where no --weights are given; `python -m minseg.pretrained` makes it anew.
"""

from pathlib import Path

STREET = Path(__file__).with_name("street.safetensors")
