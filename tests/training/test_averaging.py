import csv

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from intel_scenes import record
from intel_scenes.probabilities import cross_entropies
from intel_scenes.training.averaging import WarmedEMA, WarmedNorms, newest_weight
from tests.small import QUIET


class Counter(LightningModule):
    """One weight that is n after step n."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("steps", torch.tensor(0))
        self.averages: list[float] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return -self.weight.sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.averages.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.parametrize(
    ("decay", "expected"),
    # 2/11 of the average and 9/11 of the weight at step 2, 3/12 and 9/12 at step 3: by hand
    [(0.9, [1.0, 20 / 11, 20 / 11 / 4 + 3 * 9 / 12]), (0.1, [1.0, 1.9, 0.19 + 2.7])],
)
def test_the_average_warms_up_to_its_decay(decay: float, expected: list[float]) -> None:
    module = Counter()
    trainer = Trainer(
        **QUIET,
        max_epochs=3,
        callbacks=[WarmedEMA(decay)],
        enable_checkpointing=False,
    )
    batches = torch.utils.data.DataLoader([torch.zeros(1)])
    trainer.fit(module, batches, batches)
    assert module.averages == pytest.approx(expected)
    assert module.weight.item() == pytest.approx(expected[-1])
    assert module.steps.item() == 3


def test_the_weight_of_the_newest_value_falls_from_1_to_its_final_value() -> None:
    assert [newest_weight(step, 0.1) for step in (1, 2, 9, 81, 82, 1000)] == pytest.approx(
        [1, 9 / 11, 1 / 2, 0.1, 0.1, 0.1]
    )


class Norm(LightningModule):
    """A batch norm that sees constant images, of brightness 1, 2, 3, ..., and is evaluated after each epoch of two."""

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.network = torch.nn.BatchNorm2d(1, momentum=momentum)
        self.means: list[float] = []
        self.batches = 0

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return self.network(torch.full((4, 1, 2, 2), float(self.batches))).sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.means.append(self.network.running_mean.item())

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("momentum", [0.1, 0.01])
def test_batch_norm_statistics_warm_up_whatever_their_momentum(momentum: float) -> None:
    module = Norm(momentum)
    trainer = Trainer(**QUIET, max_epochs=2, callbacks=[WarmedNorms()], enable_checkpointing=False)
    batches = torch.utils.data.DataLoader([torch.zeros(1)] * 2)
    trainer.fit(module, batches, torch.utils.data.DataLoader([torch.zeros(1)]))
    # The first batch, then 9/11 of the second, 9/12 of the third and 9/13 of the fourth: by hand.
    second = 1 * 2 / 11 + 2 * 9 / 11
    fourth = (second * 3 / 12 + 3 * 9 / 12) * 4 / 13 + 4 * 9 / 13
    assert module.means == pytest.approx([second, fourth], rel=1e-5)
    assert module.network.momentum == momentum


def test_batch_norms_in_evaluation_mode_keep_their_statistics() -> None:
    module = Norm(0.1)
    module.on_train_start = module.network.eval
    trainer = Trainer(**QUIET, max_epochs=1, callbacks=[WarmedNorms()], enable_checkpointing=False)
    batches = torch.utils.data.DataLoader([torch.zeros(1)] * 2)
    trainer.fit(module, batches, torch.utils.data.DataLoader([torch.zeros(1)]))
    assert module.means == [0.0]


@pytest.mark.parametrize("ema_decay", ["null", "0.99"])
def test_a_short_training_from_random_weights_is_as_good_in_evaluation_mode_as_while_training(
    run, tmp_path, ema_decay
) -> None:
    summary = run("model=resnet9_x0_5", "data.num_train=240", "epochs=4", f"recipe.ema_decay={ema_decay}")
    with (tmp_path / "run" / record.HISTORY).open() as file:
        *_, last = csv.DictReader(file)
    assert float(last["train_accuracy"]) > 0.5  # of six classes
    assert float(last["train_eval_accuracy"]) > float(last["train_accuracy"]) - 0.1
    # The weights that chose the epoch are those that are kept and reported.
    val = record.Predictions.read(tmp_path / "run", "val")
    assert (val.probabilities.argmax(1) == val.labels).mean() == pytest.approx(summary.val_accuracy)
    assert cross_entropies(val.probabilities, val.labels).mean() == pytest.approx(summary.val_loss, rel=1e-4)
