"""The studies, a file each. The order is that of the book: what, where, how far, with what."""

NAMES = (
    "fcn-strides",
    "skips",
    "concat-or-add",
    "unpooling",
    "atrous",
    "aspp",
    "image-pooling",
    "decoder",
    "crf",
    "deep-supervision",
    "elastic",
    "rare-class",
    "noisy-masks",
    "far-cue",
)
