"""minseg: segmentation networks from scratch, down to the last line and the last GPU thread."""

__version__ = "0.1.0"
