"""A batch that grows where the schedule would lower the rate: sizes and rates by hand, and whole runs."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from intel_scenes import record
from intel_scenes.config import of_record
from intel_scenes.errors import UserError
from intel_scenes.models.schedules import warmup_stable_decay
from intel_scenes.record import Origin
from intel_scenes.training.batch_growth import grown, rates_of
from intel_scenes.training.dry_run import dry_run
from tests.small import DRAWN, SMALL, asked
from tests.training.test_frozen_features import history

LINEAR = [1, 0.75, 0.5, 0.25]
PROBE = ("recipe=linear_probe", "optim=sgd", "optim.lr=0.01", "data.batch_size=16", "keep_last=true")
HALVED = ("scheduler=step", "scheduler.factory.step_size=1", "scheduler.factory.gamma=0.5")  # after every epoch


@pytest.mark.parametrize(
    ("rates", "num_images", "exponent", "sizes", "factors"),
    [
        # Batches of four at first. At four images seen f is 0.75 and the batch 4 / 0.75; at nine, 0.5 and eight.
        (LINEAR, 16, 1, [[4, 5, 7]], [1, 1, 1]),
        # 4 / 0.75**2 is seven; at eleven images seen 16 are wanted and five are left, which join the seven.
        (LINEAR, 16, 2, [[4, 12]], [1, 1]),
        (LINEAR, 16, 0.5, [[4, 5, 7]], [1, 1, 1]),  # 4.6; at nine 5.7, and the seven left are one and join them
        # Two passes: at the start of the second one f is a half, which is the whole pass.
        (LINEAR, 8, 1, [[4, 4], [8]], [1, 1, 1]),
        # Where the batch cannot grow four- or sixteenfold but twice, the rate falls by the rest.
        ([1, 1, 0.25, 0.25], 8, 1, [[4, 4], [8]], [1, 1, 0.5]),
        ([1, 1, 0.25, 0.25], 8, 2, [[4, 4], [8]], [1, 1, 0.25 * 2**0.5]),
        ([1, 1, 0, 0], 8, 1, [[4, 4], [8]], [1, 1, 0]),
        # Each image counts once per pass: half a batch is one, less than half joins the one before.
        ([1, 1, 1, 0.5], 10, 1, [[4, 4, 2], [4, 6]], [1, 1, 1, 1, 1]),
        ([1, 1, 1, 1], 9, 1, [[4, 5], [4, 5]], [1, 1, 1, 1]),
        # A warm-up stays, and a second rise: f is relative to the largest rate so far.
        ([0, 1, 0.5, 0.5], 16, 1, [[4, 4, 8]], [0, 1, 1]),
        ([0.5, 1, 0.5, 2], 16, 1, [[4, 4, 8]], [0.5, 1, 1]),
    ],
)
def test_the_batch_grows_where_the_rate_would_fall(rates, num_images, exponent, sizes, factors):
    num_passes = len(rates) // (num_images // 4)
    growth = grown(
        [0.1 * rate for rate in rates],
        lr=0.1,
        batch_size=4,
        num_images=num_images,
        num_passes=num_passes,
        exponent=exponent,
    )
    assert [list(of_pass) for of_pass in growth.sizes] == sizes
    assert growth.factors == pytest.approx(factors)


def test_the_cooldown_of_a_wsd_schedule_is_a_growing_batch():
    """Rates 1/3, 2/3, 1, 1, then 4/5, 3/5, 2/5, 1/5: in the second pass 8 images, then 10, and 24 are wanted of 6."""
    factor = partial(warmup_stable_decay, num_steps=8, warmup_fraction=0.25, decay_fraction=0.5)
    rates = rates_of(partial(LambdaLR, lr_lambda=factor), lr=0.3, interval="step", num_steps=8, steps_per_epoch=4)
    growth = grown(rates, lr=0.3, batch_size=6, num_images=24, num_passes=2, exponent=1)
    assert growth.sizes == ((6, 6, 6, 6), (8, 16))
    assert growth.factors == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


def test_a_schedule_by_epochs_keeps_its_rate_for_an_epoch():
    rates = rates_of(partial(ExponentialLR, gamma=0.5), lr=0.8, interval="epoch", num_steps=6, steps_per_epoch=2)
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


class Steps(Callback):
    """Notes the number of images and the learning rate of each step."""

    def __init__(self):
        self.sizes, self.rates = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.sizes.append(len(batch[1]))


def test_a_run_takes_the_batches_and_the_rates_that_its_schedule_gives(run, tmp_path, caplog):
    """108 images: batches of 16, of 32, of 64, and where 128 are wanted all 108 at 108/128 of the rate."""
    steps, folder = Steps(), tmp_path / "run"
    caplog.set_level("INFO")
    summary = run(*PROBE, *HALVED, "epochs=4", "batch_growth=1", folder=folder, callbacks=[steps])
    assert steps.sizes == [*[16] * 6, 12, 32, 32, 44, 64, 44, 108]
    assert steps.rates == pytest.approx([*[0.01] * 12, 0.01 * 108 / 128])
    assert [row["step"] for row in history(folder)] == [7, 10, 12, 13]
    assert [row["lr"] for row in history(folder)] == pytest.approx([0.01, 0.01, 0.01, 0.01 * 108 / 128])
    assert of_record(folder).num_steps == 13
    assert (summary.batch_size, summary.epochs) == (16, 4)
    assert "epochs:  4, 13 steps with a growing batch in total;" in caplog.text
    assert run(*PROBE, *HALVED, "epochs=4", "batch_growth=1", folder=folder) == summary, "it is complete"


@pytest.mark.parametrize(
    "options",
    [
        (
            *(*PROBE, "data.passes_per_epoch=2", "optim=adamw", "scheduler=wsd", "batch_growth=2"),
            *("averages=[0.5]", "noise_scale=1"),
        ),
        # Running statistics of batch norms with warm-up count the batches so far.
        (
            *("recipe=plain", "model=resnet9_x0_5", "data.image_size=16", "data.batch_size=16", "keep_last=true"),
            *(*HALVED, "batch_growth=1", "recipe.ema_decay=0.8"),
        ),
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one(run, tmp_path, options):
    class Stops(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(*options, "epochs=4", folder=whole)
    with pytest.raises(KeyboardInterrupt):
        run(*options, "epochs=4", folder=cut, callbacks=[Stops()])
    run(*options, "epochs=4", folder=cut)
    rows, expected = ([{**row, "images_per_second": 0} for row in history(place)] for place in (cut, whole))
    assert rows == expected
    measured = [record.AVERAGES, record.GRADIENT_NOISE] if "noise_scale=1" in options else []
    for name in measured:
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert (cut / record.PREDICTIONS).read_bytes() == (whole / record.PREDICTIONS).read_bytes()
    ours, theirs = (torch.load(place / record.LAST, weights_only=True)["state_dict"] for place in (cut, whole))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_forecast_tells_the_largest_batch(cache):
    options = (*DRAWN, *SMALL, *PROBE, *HALVED, "epochs=4", "batch_growth=1", f"data.cache_dir={cache}")
    text = "\n".join(dry_run(asked(*options), Origin()))
    assert "108 training images in batches that grow from 16 to 108, 13 steps with epochs=4; " in text
    assert "GB with batches of 16" in text or "memory: unknown" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("data.batch_size=108", "scheduler=cosine"),
            "batch_growth has no effect with data.batch_size=108, which is all 108 training images: lower "
            "data.batch_size, or leave batch_growth out",
        ),
        (
            ("scheduler=constant",),
            "batch_growth has no effect with a schedule that never lowers the learning rate: choose another scheduler, "
            "such as scheduler=cosine, or leave batch_growth out",
        ),
    ],
)
def test_a_growth_without_effect_is_refused(run, tmp_path, options, sentence):
    with pytest.raises(UserError) as caught:
        run(*PROBE, "batch_growth=1", *options, folder=tmp_path / "run")
    assert str(caught.value) == sentence
    assert not (tmp_path / "run").exists()
