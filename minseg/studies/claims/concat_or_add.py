"""Skips laid beside the upsampled features, or added to them, at equal parameters."""

from functools import partial

from minseg.studies.claims.skips import train
from minseg.studies.study import Study

# Where features are added, the next convolution has half as many inputs. One more channel makes up
# for it: 610,401 weights against 611,765.
CONCATENATED, ADDED = 18, 19

STUDY = Study(
    name="concat-or-add",
    claim="Features laid beside each other serve better than their sum",
    source="Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, section 2; against the sum of "
    "Long et al. 2015, arXiv:1411.4038, section 4.2",
    setting="drawn wires of 1-2 pixels; U-Nets of 3 poolings, as many weights by their width",
    measure="IoU of wires",
    trainings={
        "concatenated": partial(train, "concat", CONCATENATED),
        "added": partial(train, "add", ADDED),
    },
    expect=(("concatenated", "added"),),
    steps=120,
)
