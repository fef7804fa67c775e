"""The fully connected CRF: labels that agree with their neighbours and with the colours around.

    refined = minseg.crf.dense_crf(probabilities, image)     # (K, H, W), (H, W, C) -> (K, H, W)

mean_field.py has the model and its inference, which needs sums over all pairs of pixels. exact.py
computes these term by term; permutohedral.py approximates them in time that grows with the number
of pixels, not of pairs.
"""

from minseg.crf.mean_field import ITERATIONS, dense_crf

__all__ = ["ITERATIONS", "dense_crf"]
