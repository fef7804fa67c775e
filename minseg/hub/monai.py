"""MONAI's names of the layers of its AttentionUnet, which holds each level inside the one above."""

from collections.abc import Iterable

CONV = {"conv.0.conv": "0", "conv.0.adn.N": "1", "conv.1.conv": "3", "conv.1.adn.N": "4"}
UP = {
    "upconv.up.conv": "up.{}.0",
    "upconv.up.adn.N": "up.{}.1",
    "attention.W_x.0.conv": "gates.{}.theta.0",
    "attention.W_x.1": "gates.{}.theta.1",
    "attention.W_g.0.conv": "gates.{}.phi.0",
    "attention.W_g.1": "gates.{}.phi.1",
    "attention.psi.0.conv": "gates.{}.psi.0",
    "attention.psi.1": "gates.{}.psi.1",
    "merge.conv": "merge.{}.0",
    "merge.adn.A": "merge.{}.2",
}


def attention_unet_rules(keys: Iterable[str]) -> dict[str, str]:
    """MONAI's name of a layer -> its name here; `keys` show how deep the network is."""
    depth = 1 + max((key.count(".submodule.1") for key in keys), default=0)
    rules = {"model.2.conv": "head"}
    rules |= {f"model.0.{old}": f"contract.0.{new}" for old, new in CONV.items()}
    for level in range(depth):
        outer = "model.1" + level * ".submodule.1"
        inner = f"{outer}.submodule" + (".0" if level < depth - 1 else "")
        for old, new in CONV.items():
            rules[f"{inner}.{old}"] = f"contract.{level + 1}.{new}"
        for old, new in UP.items():
            rules[f"{outer}.{old}"] = new.format(depth - 1 - level)  # here from the bottom up
    return rules
