"""Writes segformer.npz, Hugging Face's SegFormer: python -m tests.golden.make_segformer

What it holds: the names and shapes of all parameters, B0 to B5; the names in published files, which
are older; and, for B0 with weights made by a formula, logits and gradients in float64. It needs
torch and transformers 5.23.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.golden.make_models import formula, shapes_of
from tests.golden.make_smp import directions

# Sizes that no stride divides; a map of 17x20, which is reduced to 2x2 keys.
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 3, 65, 77))
UPSTREAM = RNG.standard_normal((2, 5, 17, 20))  # of the logits, a quarter of the image
KEPT = np.s_[:, :, ::5, ::7]  # of the gradient of the image

# nvidia/segformer-b0-finetuned-..., and so on: config.json
CONFIGS = {
    0: {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    1: {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    2: {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    3: {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 18, 3], "decoder_hidden_size": 768},
    4: {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 8, 27, 3], "decoder_hidden_size": 768},
    5: {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3], "decoder_hidden_size": 768},
}

if __name__ == "__main__":
    import torch
    from safetensors.numpy import load_file
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    golden, shapes = {}, {}
    for variant, config in CONFIGS.items():
        with torch.device("meta"):
            network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=5, **config))
            shapes[f"segformer_b{variant}"] = shapes_of(network.state_dict())

    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=5, **CONFIGS[0]))
    network = network.eval().double()
    state = network.state_dict()
    for key, value in state.items():
        value.copy_(torch.from_numpy(formula(key, tuple(value.shape), value.numpy().dtype)))
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)  # under the names of the first version
        saved = load_file(Path(folder) / "model.safetensors")
    by_content = {value.numpy().tobytes(): key for key, value in state.items()}
    published = {key: by_content[value.tobytes()] for key, value in saved.items()}

    image = torch.from_numpy(IMAGE).requires_grad_()
    logits = network(image).logits
    logits.backward(torch.from_numpy(UPSTREAM))
    golden["logits"] = logits.detach().numpy()
    golden["grad"] = image.grad.numpy()[KEPT]
    golden["products"] = np.array(
        [
            (p.grad.numpy() * directions(key, tuple(p.shape))).sum()
            for key, p in network.named_parameters()
        ]
    )
    for name, tree in {"shapes": shapes, "published": published}.items():
        golden[name] = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("segformer.npz"), **golden)
