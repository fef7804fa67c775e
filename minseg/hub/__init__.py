"""Weights from elsewhere: files of other libraries, read safely, under the names used here.

    state = minseg.hub.load_weights("fcn_resnet50_coco-1167a1af.pth")
    model = minseg.models.build("fcn_resnet50", num_classes=21, aux_loss=True)
    model.load_state_dict(minseg.hub.adapt("fcn_resnet50", state))

`minseg.hub.load("segformer_b0_ade20k")` does all of it for weights that are published
(`published.py`).

Files are read by `weights.py`, names are changed by `names.py`.
"""

from minseg.hub.names import adapt as adapt
from minseg.hub.published import CLASSES as CLASSES
from minseg.hub.published import PUBLISHED as PUBLISHED
from minseg.hub.published import load as load
from minseg.hub.weights import load_weights as load_weights
