import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from intel_scenes.runs.averaging import WarmedEMA
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
def test_the_average_keeps_more_of_itself_from_step_to_step_up_to_its_decay(
    decay: float, expected: list[float]
) -> None:
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
