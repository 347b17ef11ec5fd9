"""Trainings of the files of `conf/`, beside a loop of plain torch from the same weights over the same images."""

import csv
import importlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer, lr_scheduler
from torchvision.transforms.functional import normalize, to_tensor

from intel_scenes import record
from intel_scenes.data.batches import order
from intel_scenes.training.build import build_data
from tests.small import DRAWN, SMALL, asked

Run = Callable[..., Any]
EPOCHS, BATCH_SIZE = 3, 36
NUM_STEPS = 3 * EPOCHS  # 108 training images make three batches
# Images are seen as they are stored.
PLAIN = (
    *("recipe=plain", "augment=none", "data.image_size=32", "data.store_size=32", "data.crop_fraction=1.0"),
    *(f"epochs={EPOCHS}", f"data.batch_size={BATCH_SIZE}", "keep_last=true"),
)
# Smooth and shallow: nine steps do not blow up what another order of summation rounds otherwise.
SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            *(nn.Conv2d(3, 8, 5, stride=2), nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
            nn.Linear(128, num_classes),
        )
"""


def warmed_up(step: int) -> float:
    """A tenth of nine steps rises, to one at the next; then half a cosine over the other eight."""
    return 1 / 2 if step == 0 else (1 + math.cos(math.pi * (step - 1) / 8)) / 2


# By optimizer and scheduler: overrides, and the classes of torch with the numbers of the files.
PAIRS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[..., Optimizer], Callable[..., Any]]] = {
    ("sgd", "step"): (
        ("optim.lr=0.02", "scheduler.factory.step_size=1"),
        partial(optim.SGD, lr=0.02, momentum=0.9),
        partial(lr_scheduler.StepLR, step_size=1, gamma=0.1),
    ),
    ("sgd_nesterov", "cosine"): (
        ("optim.lr=0.05",),
        partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.0005, nesterov=True),
        partial(lr_scheduler.CosineAnnealingLR, T_max=NUM_STEPS),
    ),
    ("adam", "onecycle"): (
        (),
        partial(optim.Adam, lr=0.0003),
        partial(lr_scheduler.OneCycleLR, max_lr=0.0003, total_steps=NUM_STEPS, cycle_momentum=False),
    ),
    ("adamw", "warmup_cosine"): (
        (),
        partial(optim.AdamW, lr=0.0003, weight_decay=0.01),
        partial(lr_scheduler.LambdaLR, lr_lambda=warmed_up),
    ),
    ("sgd_plain", "power"): (
        ("optim.lr=0.05",),
        partial(optim.SGD, lr=0.05),
        partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: (1 - step / NUM_STEPS) ** 2),
    ),
    ("rmsprop", "plateau"): (
        ("scheduler.factory.patience=0", "+scheduler.factory.threshold=0.3"),
        partial(optim.RMSprop, lr=0.0001),
        partial(lr_scheduler.ReduceLROnPlateau, factor=0.1, patience=0, threshold=0.3),
    ),
}


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The network of the source, which a run that starts from `weights.pth` in the current folder has, too."""
    (tmp_path / f"plain_{tmp_path.name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(3)
    found: nn.Module = importlib.import_module(f"plain_{tmp_path.name}").Net(6)
    torch.save(found.state_dict(), "weights.pth")
    return found


def network_of(network: nn.Module) -> tuple[str, ...]:
    return ("model=custom", f"model._target_={type(network).__module__}.Net", "model.weights=weights.pth")


def images_of(cache: Path) -> tuple[Tensor, Tensor, list[list[int]], list[int]]:
    """All images as the files have them, their labels, the training batches of all epochs, and the val split."""
    splits = build_data(asked(*DRAWN, *SMALL, *PLAIN, f"data.cache_dir={cache}")).splits
    opened = (Image.open(splits.scenes.file(index)) for index in range(len(splits.scenes)))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.stack([normalize(to_tensor(image), mean, std) for image in opened])
    batches = [
        splits.train[order(1, epoch, len(splits.train))][start : start + BATCH_SIZE].tolist()
        for epoch in range(EPOCHS)
        for start in range(0, len(splits.train), BATCH_SIZE)
    ]
    labels = torch.from_numpy(splits.scenes.labels)
    return images, labels, batches, splits.val.tolist()


def spared(network: nn.Module) -> Iterator[dict[str, Any]]:
    """Weight decay is for weights, not for biases and norms, all of  in a ResNet."""
    parameters = list(network.parameters())
    yield {"params": [one for one in parameters if one.ndim > 1]}
    yield {"params": [one for one in parameters if one.ndim == 1], "weight_decay": 0.0}


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_an_optimizer_and_a_scheduler_train_as_in_a_loop_of_plain_torch(
    pair: tuple[str, str], run: Run, network: nn.Module, cache: Path, tmp_path: Path
) -> None:
    overrides, make_optimizer, make_scheduler = PAIRS[pair]
    run(*PLAIN, *network_of(network), f"optim={pair[0]}", f"scheduler={pair[1]}", *overrides)
    with (tmp_path / "run" / record.HISTORY).open() as file:
        history = list(csv.DictReader(file))

    images, labels, batches, val = images_of(cache)
    optimizer = make_optimizer(spared(network))
    scheduler = make_scheduler(optimizer)
    by_epoch, rates = pair[1] in ("step", "plateau"), []
    for number, batch in enumerate(batches, start=1):
        rates.append(optimizer.param_groups[0]["lr"])
        loss = functional.cross_entropy(network.train()(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not by_epoch:
            scheduler.step()
        if number % 3 == 0:
            with torch.inference_mode():
                val_loss = functional.cross_entropy(network.eval()(images[val]), labels[val]).item()
            row = history[number // 3 - 1]
            assert float(row["val_loss"]) == pytest.approx(val_loss, rel=1e-5)
            assert float(row["lr"]) == pytest.approx(rates[-1], rel=1e-6)
            if by_epoch:
                scheduler.step(*([val_loss] if pair[1] == "plateau" else []))

    assert max(rates) > 2 * min(rates), "the schedule moved"
    state = torch.load(tmp_path / "run" / record.LAST, weights_only=True)["state_dict"]
    begun = torch.load(tmp_path / "weights.pth", weights_only=True)
    for name, expected in network.state_dict().items():
        torch.testing.assert_close(state[f"network.{name}"], expected, rtol=1e-6, atol=1e-6)
        assert (expected - begun[name]).norm() > 1e-3, "it moved by far more than that"


BUFFERS = [("sgd", "momentum_buffer", 1.0), ("sign", "momentum_buffer", 1.0), ("adamw", "exp_avg", 0.1)]


@pytest.mark.parametrize(("name", "key", "share"), BUFFERS)
def test_gradients_in_sixteen_bits_are_clipped_to_the_norm_that_torch_gives_them(
    name: str, key: str, share: float, run: Run, network: nn.Module, cache: Path, tmp_path: Path
) -> None:
    """After a first step the momentum of SGD and of signs is the gradient that it was given, and AdamW's a tenth."""
    images, labels, (batch, *_), _ = images_of(cache)
    functional.cross_entropy(network(images[batch]), labels[batch]).backward()
    whole = clip_grad_norm_(network.parameters(), float("inf")).item()
    limit = round(whole / 3, 4)
    clip_grad_norm_(network.parameters(), limit)

    few = ("epochs=1", "++trainer.limit_train_batches=1", "trainer.precision=bf16", f"optim={name}")
    run(*PLAIN, *network_of(network), *few, f"++trainer.gradient_clip_val={limit}")
    (state,) = torch.load(tmp_path / "run" / record.LAST, weights_only=True)["optimizer_states"]
    used = [of_parameter[key] / share for of_parameter in state["state"].values()]
    assert len(used) == len(list(network.parameters()))
    assert torch.cat([one.flatten() for one in used]).norm().item() == pytest.approx(limit, rel=1e-3)
    by_shape = {one.shape: one for one in used}
    for layer in (network[0], network[5]):
        expected = layer.weight.grad
        assert (by_shape[expected.shape] - expected).norm() < 0.02 * expected.norm(), "bfloat16 keeps eight bits"
