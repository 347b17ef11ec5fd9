"""The loop and its rival alternate, and each is charged with its own seconds."""

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from intel_scenes.benchmarks import loop_rate
from intel_scenes.benchmarks.loop_rate import TURN, Turns
from tests.small import QUIET


class Clock:
    """Advances only when a test says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Model(BoringModel):
    """Takes two seconds a step and seven to validate."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def training_step(self, batch, batch_idx):
        self.clock.now += 2
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self):
        self.clock.now += 7


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop_rate, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("num_steps", "met"),
    [
        (2 * TURN + 5, [TURN // 2] * TURN + [TURN // 2 + TURN] * TURN + [2 * TURN + 5] * 5),
        (2 * TURN - 5, [TURN // 2] * TURN + [TURN // 2 + TURN] * (TURN - 5)),  # the rival is the first to end
    ],
)
def test_each_is_charged_with_its_own_seconds_whoever_has_the_turn(clock, tmp_path, num_steps, met):
    steps_of_ours = []  # at each step of the rival

    def rival():
        for _ in range(num_steps):
            clock.now += 3
            steps_of_ours.append(trainer.global_step)
            yield 64
        clock.now += 11  # its evaluation

    turns = Turns(rival())
    trainer = Trainer(
        **QUIET,
        enable_checkpointing=False,
        max_epochs=1,
        limit_train_batches=num_steps,
        limit_val_batches=1,
        callbacks=[turns],
        default_root_dir=tmp_path,
    )
    trainer.fit(Model(clock))
    assert steps_of_ours == met
    assert turns.num_images == 64 * num_steps
    assert turns.ours == 2 * num_steps + 7
    assert turns.theirs == 3 * num_steps + 11
