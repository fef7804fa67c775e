"""The fully connected CRF: labels that agree with their neighbours and with the colours around.

    refined = minseg.crf.dense_crf(probabilities, image)     # (K, H, W), (H, W, C) -> (K, H, W)

mean_field.py has the model and its inference, which needs sums over all pairs of pixels; exact.py
computes them as they stand, permutohedral.py in a time that grows with the pixels, not the pairs.
"""

from minseg.crf.mean_field import ITERATIONS, dense_crf

__all__ = ["ITERATIONS", "dense_crf"]
