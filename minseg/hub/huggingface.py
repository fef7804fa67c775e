"""Hugging Face's names of SegFormer's layers.

There are two sets: the older one of the published files, and that of transformers 5.
"""

from minseg.backbones.mit import VARIANTS

# A layer of a block: in published files, in transformers 5, and here.
BLOCK = (
    ("layer_norm_1", "layernorm_before", "layernorm_before"),
    ("layer_norm_2", "layernorm_after", "layernorm_after"),
    ("attention.self.query", "attention.q_proj", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj", "attention.o_proj"),
    ("attention.self.sr", "attention.sequence_reduction.sequence_reduction",
     "attention.sequence_reduction.proj"),
    ("attention.self.layer_norm", "attention.sequence_reduction.layer_norm",
     "attention.sequence_reduction.layer_norm"),
    ("mlp.dense1", "mlp.fc1", "mlp.fc1"),
    ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "mlp.dwconv"),
    ("mlp.dense2", "mlp.fc2", "mlp.fc2"),
)  # fmt: skip
HEAD = ("linear_fuse", "batch_norm", "classifier")


def segformer_rules(variant: int) -> dict[str, str]:
    """The layer's name, from either set -> its name here.

    A published file has the patch embeddings of all stages, then all blocks, then all layer norms.
    """
    rules = {f"decode_head.{layer}": f"decode_head.{layer}" for layer in HEAD}
    for i, depth in enumerate(VARIANTS[variant][1]):
        stage = f"backbone.stages.{i}"
        for linear in ("linear_c", "linear_projections"):
            rules[f"decode_head.{linear}.{i}.proj"] = f"decode_head.linear_projections.{i}"
        for layer in ("patch_embeddings", "layer_norm"):
            rules[f"segformer.encoder.{layer}.{i}"] = f"{stage}.{layer}"
            rules[f"segformer.stages.{i}.{layer}"] = f"{stage}.{layer}"
        for j in range(depth):
            for published, new, layer in BLOCK:
                rules[f"segformer.encoder.block.{i}.{j}.{published}"] = (
                    f"{stage}.blocks.{j}.{layer}"
                )
                rules[f"segformer.stages.{i}.blocks.{j}.{new}"] = f"{stage}.blocks.{j}.{layer}"
    return rules


def mit_rules(variant: int) -> dict[str, str]:
    """The same for the encoder alone."""
    return {old: new.removeprefix("backbone.") for old, new in segformer_rules(variant).items()}
