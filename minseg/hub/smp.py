"""Names in segmentation_models.pytorch -> names here, for the networks made with `backbone=`."""

# The nodes x_d_k are counted from the bottom there: level 3 - k, column k - d + 1.
CONVS = {"conv1.0": "0", "conv1.1": "1", "conv2.0": "3", "conv2.1": "4"}
UNETPLUSPLUS = {
    "encoder": "encoder",
    **{
        f"decoder.blocks.x_{d}_{k}.{old}": f"nodes.x_{3 - k}_{k - d + 1}.convs.{new}"
        for k in range(4)
        for d in range(k + 1)
        for old, new in CONVS.items()
    },
    **{f"decoder.blocks.x_0_4.{old}": f"last.{new}" for old, new in CONVS.items()},
    "segmentation_head.0": "head",
}

PSPNET_UNUSED = ("encoder.layer3.", "encoder.layer4.")  # kept there, though nothing sees them
PSPNET = {
    "encoder": "encoder",
    **{
        f"decoder.psp.blocks.{i}.pool.1.{j}": f"pools.{i}.{j + 1}"
        for i in range(4)
        for j in range(2)
    },
    "decoder.conv": "project",
    "segmentation_head.0": "head",
}

# Levels are counted from the coarsest there, from the finest here.
FPN = {
    "encoder": "encoder",
    "decoder.p5": "fpn.lateral.3",
    **{f"decoder.p{level}.skip_conv": f"fpn.lateral.{level - 2}" for level in (4, 3, 2)},
    **{
        f"decoder.seg_blocks.{3 - level}.block.{i}.block": f"branch.levels.{level}.{i}"
        for level in range(4)
        for i in range(3)
    },
    "segmentation_head.0": "head",
}

DEEPLABV3PLUS = {
    **{f"encoder.model.stem_{i}": f"backbone.stem.{i}" for i in range(2)},
    **{f"encoder.model.blocks_{i}": f"backbone.blocks.{i}" for i in range(21)},
    "encoder": "backbone",
    "decoder.aspp": "aspp",
    "decoder.block1": "low_level",
    "decoder.block2": "refine",
    "segmentation_head.0": "head",
}

SMP = {
    "unetplusplus": UNETPLUSPLUS,
    "pspnet": PSPNET,
    "fpn": FPN,
    "deeplabv3plus": DEEPLABV3PLUS,
}
