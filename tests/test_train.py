import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from minseg import checkpoint
from minseg.config import Config, configure
from minseg.data import Sample, Shapes
from minseg.progress import TrainingProgress, counting
from minseg.train import Diverged, Reporter, Trainer

SMALL = {"size": (16, 24), "images": 12, "batch_size": 4, "epochs": 3}


def small(width=3, **changes):
    options = {"width": width, "depth": 1}
    return configure("unet", "shapes", options, **{**SMALL, **changes})


def state(run):
    """Everything in a run's checkpoint but the clock's readings."""
    tree = checkpoint.load(run / "last.safetensors")
    tree.pop("seconds")
    for row in tree["history"]:
        row.pop("seconds")
    tree["config"].pop("save_every")
    return tree


def assert_same(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{path}/{index}")
    elif isinstance(a, np.ndarray):
        assert a.tobytes() == b.tobytes(), path
    else:
        assert a == b or (a != a and b != b), path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 9 steps that was never stopped."""
    run = tmp_path_factory.mktemp("whole")
    assert Trainer(small(), run).fit()
    return run


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing them takes longer than these runs."""
    monkeypatch.setattr(Trainer, "draw", lambda self: None)


class StopAt(Reporter):
    """Asks to stop after some step, as Ctrl-C does."""

    def __init__(self, step):
        self.at = step

    def step(self, trainer, images):
        trainer.stop.asked = trainer.step == self.at


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("step", [1, 2, 3, 5, 9])
def test_a_stopped_run_goes_on_to_the_same_bits(whole, tmp_path, step):
    assert not Trainer(small(), tmp_path).fit(StopAt(step))
    trainer = Trainer.resume(tmp_path)
    assert trainer.step == step
    assert trainer.fit()
    assert_same(state(tmp_path), state(whole))
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (checkpoint.load(run / name)["model"] for run in (tmp_path, whole))
        assert_same(ours, theirs)


@pytest.mark.usefixtures("no_figures")
def test_a_stop_in_the_middle_of_a_validation(whole, tmp_path, monkeypatch):
    trainer = Trainer(small(), tmp_path)
    evaluate = trainer._validate

    def interrupted(progress):
        trainer.stop.asked = True
        evaluate(progress)

    monkeypatch.setattr(trainer, "_validate", interrupted)
    assert not trainer.fit()
    assert not trainer.history  # it was not waited for
    assert Trainer.resume(tmp_path).fit()
    assert_same(state(tmp_path), state(whole))


def test_resuming_a_finished_run_changes_nothing(whole):
    before = state(whole)
    assert Trainer.resume(whole).fit()
    assert_same(state(whole), before)


def test_killed_at_random_moments(whole, tmp_path):
    code = (
        "import sys; from minseg.train import Trainer; from tests.test_train import small\n"
        "run = sys.argv[1]; import os\n"
        "new = not os.path.exists(run + '/last.safetensors')\n"
        "trainer = Trainer(small(save_every=1e-6), run) if new else Trainer.resume(run)\n"
        "print('ready', flush=True); trainer.draw = lambda: None; trainer.fit()\n"
    )
    moment = random.Random(0)
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        if attempt < 4:
            time.sleep(moment.uniform(0, 0.25))
            process.kill()
        process.stdout.close()
        code_of_end = process.wait()
    assert code_of_end == 0
    assert_same(state(tmp_path), state(whole))
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 4


def test_a_run_folder_says_what_happened(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"config.json", "metrics.csv", "curves.png", "samples.png",
                     "last.safetensors", "best.safetensors"}  # fmt: skip
    header, *rows = (whole / "metrics.csv").read_text().splitlines()
    assert header == "step,epoch,seconds,lr,train_loss,val_loss,val_pixel_accuracy,val_mIoU"
    assert [row.split(",")[0] for row in rows] == ["3", "6", "9"]
    best = checkpoint.load(whole / "best.safetensors")
    scores = [row["val_mIoU"] for row in state(whole)["history"]]
    assert best["scores"]["val_mIoU"] == max(scores)
    assert best["classes"] == ["background", "circle", "rectangle", "triangle"]


@pytest.mark.usefixtures("no_figures")
def test_it_learns(tmp_path):
    trainer = Trainer(small(images=64, width=8, epochs=6, lr=1e-2), tmp_path)
    trainer.fit()
    first, last = trainer.history[0], trainer.history[-1]
    assert last["train_loss"] < 0.75 * first["train_loss"]
    assert last["val_pixel_accuracy"] > 0.6


@pytest.mark.usefixtures("no_figures")
def test_the_training_loss_is_the_mean_since_the_last_validation(tmp_path):
    trainer = Trainer(small(epochs=2), tmp_path)
    loss_of, losses = trainer.loss, []

    def recorded(*arguments):
        loss = loss_of(*arguments)
        if trainer.model.training:
            losses.append(loss.item())
        return loss

    trainer.loss = recorded
    trainer.fit()
    means = [np.mean(losses[:3]), np.mean(losses[3:])]
    assert len(losses) == 6
    assert [row["train_loss"] for row in trainer.history] == pytest.approx(means)


@pytest.mark.usefixtures("no_figures")
def test_steps_and_minutes_are_budgets_too(tmp_path):
    trainer = Trainer(small(epochs=None, steps=4), tmp_path / "steps")
    trainer.fit()
    assert (trainer.step, trainer.epoch, trainer.batch) == (4, 1, 1)
    trainer = Trainer(small(epochs=None, minutes=0.01), tmp_path / "minutes")
    trainer.fit()
    assert 0.6 <= trainer.seconds < 6
    assert trainer.history[-1]["step"] == trainer.step
    again = Trainer.resume(tmp_path / "minutes", minutes=2 * trainer.seconds / 60)
    assert again.progress() == pytest.approx(0.5)  # the time spent counts
    with pytest.raises(ValueError, match="epochs, steps or minutes"):
        Config()
    both = Trainer(small(epochs=50, steps=4), tmp_path / "both")
    both.step = 3
    assert both.progress() == 3 / 4


# -- what goes wrong -------------------------------------------------------------------------------
# NumPy's warnings are errors in these tests: none may come before the message.
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("steps", [1, 9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_loss_that_explodes_stops_with_step_and_cause(tmp_path, steps, optimizer):
    config = small(lr=1e30, schedule="constant", optimizer=optimizer, steps=steps)
    trainer = Trainer(config, tmp_path)
    with pytest.raises(Diverged, match=r"step \d+.*learning rate.*--lr"):
        trainer.fit()


@pytest.mark.usefixtures("no_figures")
def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    trainer = Trainer(small(), tmp_path)
    trainer.fit(StopAt(2))
    before = (tmp_path / "last.safetensors").read_bytes()
    next(trainer.model.parameters()).data.flat[0] = np.nan
    with pytest.raises(Diverged, match=r"contract\.0\.0\.weight is no longer finite"):
        trainer.save()
    assert (tmp_path / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_named(tmp_path, value):
    trainer = Trainer(small(augment="none"), tmp_path)
    sample = trainer.data[2]  # kept, and the same one each time
    sample.image[3, 4, 0] = value
    with pytest.raises(ValueError, match=rf"{sample.name}.*NaN or infinite"):
        trainer.fit()


@pytest.mark.parametrize("split", ["data", "val_data"])
def test_a_label_without_a_class_is_named(tmp_path, split):
    trainer = Trainer(small(augment="none"), tmp_path)
    sample = getattr(trainer, split)[1]
    sample.mask[3, 4] = 4
    with pytest.raises(ValueError, match=rf"{sample.name}.*label 4.*needs 0\.\.3"):
        trainer.fit()


def test_a_batch_of_void_is_passed_over(tmp_path):
    trainer = Trainer(small(augment="none"), tmp_path)
    before = trainer.model.state_dict()
    batch = next(trainer.loader.epoch(0))
    batch.masks[:] = 255
    trainer._train_on(batch)
    assert trainer.step == 1
    assert_same(trainer.model.state_dict(), before)


def test_a_batch_whose_visible_middle_is_void_is_passed_over(tmp_path):
    options = {"width": 3, "depth": 1, "padding": "valid"}
    trainer = Trainer(configure("unet", "shapes", options, **{**SMALL, "size": (24, 32)}), tmp_path)
    before = trainer.model.state_dict()
    batch = next(trainer.loader.epoch(0))
    batch.masks[:, 8:16, 8:24] = 255  # all that is left of 24 x 32 pixels after this network
    trainer._train_on(batch)
    assert_same(trainer.model.state_dict(), before)
    batch.masks[:, 15, 23] = 0
    trainer._train_on(batch)
    assert trainer.loss_count == 1
    assert trainer.confusion.matrix.sum() == len(batch)  # what the bar shows


def test_a_valid_network_learns_from_the_border_as_well(tmp_path):
    """Of 24 x 32 pixels 8 x 16 come out; a mirrored frame lets the crop reach every pixel."""
    options = {"width": 3, "depth": 1, "padding": "valid"}
    how = {**SMALL, "size": (24, 32), "crop": (24, 32), "augment": "none"}
    trainer = Trainer(configure("unet", "shapes", options, **how), tmp_path)
    place = np.arange(24 * 32).reshape(24, 32)
    sample = replace(trainer.data[0], mask=place)
    seen: set[int] = set()
    for seed in range(2000):
        shown = trainer.loader.transform(sample, np.random.default_rng(seed)).mask
        assert shown.shape == (24, 32)
        seen |= set(shown[8:16, 8:24].ravel())
    assert seen == set(place.ravel())


def test_a_crop_at_which_a_pooling_rounds_up_is_refused(tmp_path):
    options = {"width": 3, "depth": 2, "padding": "valid"}  # 46 - 4 = 42, 21 - 4 = 17: odd
    how = {**SMALL, "size": (64, 64), "crop": (48, 46)}
    with pytest.raises(ValueError, match=r"crop of 48x46 pixels: .* fits is 48x48"):
        Trainer(configure("unet", "shapes", options, **how), tmp_path)


def test_a_run_is_there_to_resume_before_its_first_step(whole, tmp_path, monkeypatch):
    def killed(self, progress):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_loop", killed)
        trainer = Trainer(small(), tmp_path)
        with pytest.raises(SystemExit):
            trainer.fit()
    assert Trainer.resume(tmp_path).fit()
    assert_same(state(tmp_path), state(whole))


def test_classes_that_changed_since_are_named(tmp_path):
    trainer = Trainer(small(), tmp_path)
    trainer.save()
    tree = checkpoint.load(tmp_path / "last.safetensors")
    tree["classes"][3] = "star"
    checkpoint.save(tmp_path / "last.safetensors", tree)
    with pytest.raises(ValueError, match=r"rectangle, star, but shapes now has .*triangle"):
        Trainer.resume(tmp_path)


@pytest.mark.usefixtures("no_figures")
def test_images_may_be_taken_away_before_a_run_goes_on(tmp_path):
    trainer = Trainer(small(), tmp_path)
    assert not trainer.fit(StopAt(2))  # of 3 batches
    trainer = Trainer.resume(tmp_path, images=4)
    assert (len(trainer.loader), trainer.batch) == (1, 1)
    assert trainer.fit()
    assert trainer.step == 3  # epochs, of one batch each now


@pytest.mark.skipif(os.name != "posix", reason="Windows locks no folders")
@pytest.mark.usefixtures("no_figures")
def test_a_run_is_trained_by_one_process(tmp_path):
    script = "import sys; from minseg import cli; sys.exit(cli.main(['train', '--resume', '.']))"
    trainer = Trainer(small(), tmp_path)

    class Other(Reporter):
        def step(self, trainer, images):
            if trainer.step == 2:
                self.out = subprocess.run(
                    [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
                )

    other = Other()
    assert trainer.fit(other)
    assert other.out.returncode == 1
    assert other.out.stderr == "minseg: error: .: another process is training this run\n"
    assert Trainer.resume(tmp_path).fit()  # it is let go of in the end


@pytest.mark.usefixtures("no_figures")
def test_without_a_score_the_newest_weights_are_kept(tmp_path):
    trainer = Trainer(small(), tmp_path)
    void = [Sample(s.image, np.full_like(s.mask, 255), None, s.name) for s in trainer.val_data]
    trainer.val_data.__class__ = type("Void", (type(trainer.val_data),), {
        "__getitem__": lambda self, index: void[index]})  # fmt: skip
    assert trainer.fit()
    best = checkpoint.load(tmp_path / "best.safetensors")
    assert best["step"] == 9
    assert np.isnan(best["scores"]["val_mIoU"])


def test_a_single_class_is_refused(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in "ab":
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / kind / f"{name}.png")
    with pytest.raises(ValueError, match="'class 0' is its only class"):
        Trainer(configure("unet", f"folder:{tmp_path}", {"width": 2, "depth": 1}), tmp_path)


def test_a_checkpoint_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        Trainer.resume(tmp_path)
    checkpoint.save(tmp_path / "last.safetensors", {"step": 3})
    with pytest.raises(ValueError, match=r"last\.safetensors: its config"):
        Trainer.resume(tmp_path)
    checkpoint.save(tmp_path / "last.safetensors", {"config": {"epochs": "many"}})
    with pytest.raises(ValueError, match=r"last\.safetensors: its config"):
        Trainer.resume(tmp_path)
    Trainer(small(), tmp_path).save()
    tree = checkpoint.load(tmp_path / "last.safetensors")
    checkpoint.save(tmp_path / "last.safetensors", {**tree, "model": {"a": np.zeros(2)}})
    with pytest.raises(ValueError, match=r"(?s)missing.*contract"):
        Trainer.resume(tmp_path)
    del tree["rng"]
    checkpoint.save(tmp_path / "last.safetensors", tree)
    with pytest.raises(ValueError, match="rng"):
        Trainer.resume(tmp_path)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_saves_and_a_second_one_leaves(tmp_path):
    class Press(Reporter):
        def step(self, trainer, images):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    trainer = Trainer(small(), tmp_path)
    assert not trainer.fit(Press())
    assert Trainer.resume(tmp_path).step == 1
    trainer.stop.asked = True
    with trainer.stop.listening(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# -- starting from trained weights -----------------------------------------------------------------
def fcn(stride, **changes):
    """One step that changes nothing: what a run starts with is what it ends with."""
    options = {"width": 2, "depth": 11}
    return configure(
        f"fcn{stride}s", "shapes", options, **{**SMALL, "steps": 1, "lr": 1e-30, **changes}
    )


def test_a_finer_fcn_starts_from_a_coarser(tmp_path, no_figures):
    Trainer(fcn(32, seed=1, lr=1e-2), tmp_path / "32").fit()
    Trainer(fcn(16, init=str(tmp_path / "32")), tmp_path / "16").fit()
    coarse, fine = (checkpoint.load(tmp_path / f"{s}/last.safetensors")["model"] for s in (32, 16))
    learnt = [key for key in coarse if "running" not in key and "num_batches" not in key]
    for key in set(learnt) - {"upscore.weight"}:
        np.testing.assert_allclose(fine[key], coarse[key], rtol=0, atol=1e-29)
    assert abs(fine["score_pool4.weight"]).max() < 1e-29
    with pytest.raises(ValueError, match="copy_coarser: from stride 32 to 8"):
        Trainer(fcn(8, init=str(tmp_path / "32")), tmp_path / "8").fit()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Trainer(fcn(16, init=str(tmp_path / "nowhere")), tmp_path / "x").fit()
    assert not (tmp_path / "8").exists()


def test_the_same_network_starts_from_trained_weights(whole, tmp_path, no_figures):
    trainer = Trainer(
        small(seed=5, init=str(whole), epochs=None, steps=1, lr=1e-30), tmp_path / "b"
    )
    trainer.fit()
    before = checkpoint.load(whole / "best.safetensors")["model"]
    after = trainer.model.state_dict()
    np.testing.assert_array_equal(after["head.weight"], before["head.weight"])
    # Resumed, it does not need the weights that it started from.
    Trainer.resume(tmp_path / "b", init="gone", steps=2).fit()
    with pytest.raises(ValueError, match=r"head\.weight|contract"):
        Trainer(small(width=4, init=str(whole)), tmp_path / "c").fit()


@pytest.mark.usefixtures("no_figures")
def test_a_validation_says_how_far_it_is(tmp_path):
    class Watch(Reporter):
        seen = ()

        def validating(self, share):
            self.seen += (share,)

    trainer, watch = Trainer(small(epochs=1), tmp_path), Watch()
    trainer.val_data = Shapes(6, (24, 32), seed=1)  # in batches of 4
    assert trainer.fit(watch)
    assert watch.seen == pytest.approx((4 / 6, 1))


def test_a_bar_may_wait_for_what_mostly_is_quick(monkeypatch):
    now = 100.0
    monkeypatch.setattr("minseg.progress.time.monotonic", lambda: now)
    console = Console(width=80, force_terminal=True, file=io.StringIO())
    with counting(console, "looking", 1, after=2) as advance:
        now = 101.9
        advance(0.3)
        assert not console.file.getvalue()
        now = 102.0
        advance(0.3)
    assert "looking" in console.file.getvalue()
    assert " 60%" in console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_a_long_name_leaves_the_bar_its_room(width):
    console = Console(width=width, force_terminal=True, file=io.StringIO())
    progress = TrainingProgress(console, "unet on folder:/home/me/images of many patients")
    status = "loss 0.501  mIoU 0.463  54 images/s  12:40 left"
    progress.bar.update(progress.task, completed=0.25, status=status)
    with console.capture() as text:
        console.print(progress.bar.get_renderable())
    line = re.sub(r"\x1b\[[0-9;]*m", "", text.get())
    assert line.startswith("unet on folder:")
    assert line.count("━") > 3
    assert line.endswith(f"  25% {status}\n")
    progress.validating(1 / 3)
    with console.capture() as text:
        console.print(progress.bar.get_renderable())
    assert "validating 33%" in text.get()
