"""Networks train on a GPU as on the CPU, and wait for it only to read the loss."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import models, nn, optim
from minseg.kernels import kernels_folder
from minseg.metrics import ConfusionMatrix
from minseg.tensor import Tensor
from tests.gpu import needs_gpu, waits_for_nothing

pytestmark = needs_gpu

NETWORKS = {
    "unet": {"width": 8, "depth": 3, "norm": "batch"},
    "fcn8s": {"width": 4, "padding": "same", "norm": "batch"},
    "deeplabv3plus": {"width": 4, "depth": 18},
}
CLASSES, STEPS = 4, 20


def batches(dtype):
    """Images whose brightness says the class: there is something to learn."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        labels = rng.integers(0, CLASSES, (4, 2, 2)).repeat(32, 1).repeat(32, 2)
        noise = 0.3 * rng.standard_normal((4, 3, 64, 64))
        images = (labels[:, None] - 1.5 + noise).astype(dtype)
        labels[:, :3] = 255
        yield Tensor(images), Tensor(labels)


def make(name, dtype, device):
    minseg.manual_seed(0)
    model = models.build(name, num_classes=CLASSES, **NETWORKS[name]).to(dtype).to(device)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # it draws on the host, so that a seed gives the same on any device
    return model, optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def step(model, optimizer, images, labels):
    logits = model(images)
    loss = F.cross_entropy(logits, labels, ignore_index=255)
    loss = loss + 0.5 * F.dice_loss(logits, labels, ignore_index=255)
    optimizer.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return loss


def curve(name, dtype, device, order=1):
    """The losses; order=-1 takes each batch from its end: the same but for rounding."""
    model, optimizer = make(name, dtype, device)
    return np.array([
        step(model, optimizer, images[::order].to(device), labels[::order].to(device)).item()
        for images, labels in batches(dtype)
    ])  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_curve_is_the_cpus(name):
    """In float64 to the end; in float32 as far as the CPU's own float32 keeps to it.

    Training amplifies rounding, since a ReLU or a maximum may tip over: between two orders of the
    images in a batch, DeepLab's float64 curves differ by 4e5 eps on a CPU. A fault is far larger.
    """
    exact = curve(name, np.float64, "cpu")
    assert np.ptp(exact) > 0.05  # the weights do change
    off = np.abs(curve(name, np.float64, "cuda") - exact)
    assert (off <= 1e8 * np.finfo(np.float64).eps * exact).all()

    eps = np.finfo(np.float32).eps
    rounding = np.max(
        [np.abs(curve(name, np.float32, "cpu", order) - exact) for order in (1, -1)], axis=0
    )
    rounding += eps * exact
    off = np.abs(curve(name, np.float32, "cuda") - exact)
    assert (off[:2] <= 8 * rounding[:2]).all()  # nothing is amplified yet: loss, and gradients
    assert off.max() <= 8 * rounding.max()


def test_the_same_seed_gives_the_same_bits():
    np.testing.assert_array_equal(*(curve("unet", np.float32, "cuda") for _ in range(2)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_waits_for_nothing_and_copies_nothing(name, monkeypatch):
    model, optimizer = make(name, np.float32, "cuda")
    confusion = ConfusionMatrix(CLASSES)
    data = [(x.to("cuda"), y.to("cuda")) for x, y in batches(np.float32)]

    def whole_step(images, labels):
        loss = step(model, optimizer, images, labels)
        confusion.update(model(images).detach().argmax(1), labels)
        return loss

    for images, labels in data[:2]:  # compiles; makes optimizer state and tables
        whole_step(images, labels).item()
    with waits_for_nothing(monkeypatch) as copied:
        losses = [whole_step(images, labels) for images, labels in data[2:5]]
    assert copied == []
    assert np.isfinite([loss.item() for loss in losses]).all()
    assert confusion.matrix.sum() == 5 * 4 * 61 * 64


def test_the_command_trains_there(tmp_path, capsys):
    from minseg.cli import main

    run = ["train", "--data", "shapes", "--images", "8", "--steps", "4", "--width", "4"]
    assert main([*run, "--device", "cuda", "--out", str(tmp_path / "run")]) == 0
    assert main(["eval", "--weights", str(tmp_path / "run"), "--device", "cuda"]) == 0
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "6"]) == 0
    assert "mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("+ (b ? bias[channel] : scalar(0));", "conv2d.cu"),
        ("; assert(o < 1);", "a kernel failed on the GPU"),
        ("; __trap();", "a kernel failed on the GPU"),
    ],
)
def test_a_broken_kernel_ends_in_one_message(tmp_path, edit, said):
    """In a process of its own: after a fault, CUDA does nothing more for it."""
    folder = shutil.copytree(kernels_folder(), tmp_path / "kernels")
    text = (folder / "conv2d.cu").read_text("utf-8")
    line = "sum[r][c] + (b ? b[channel] : scalar(0));"
    assert text.count(line) == 1
    edited = text.replace(line, "sum[r][c] " + edit)
    (folder / "conv2d.cu").write_text(edited, "utf-8")
    command = ["train", "--data", "shapes", "--images", "4", "--steps", "1", "--width", "4"]
    command += ["--device", "cuda", "--kernels", folder, "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-m", "minseg", *command], capture_output=True, text=True
    )
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("minseg: error: ") :]
    assert said in message
    assert "Traceback" not in done.stderr
