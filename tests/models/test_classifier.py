import math
from collections import OrderedDict, UserList, defaultdict
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, ReduceLROnPlateau, StepLR
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.models.inception import InceptionOutputs

from intel_scenes.models.classifier import SceneClassifier, forward_backward, forward_pass
from intel_scenes.models.schedules import warmup_cosine
from intel_scenes.runtime import Runtime
from tests.small import QUIET

CONSTANT = partial(ConstantLR, factor=1.0)


class Batches(UserList[tuple[Tensor, Tensor]]):
    """Batches of (images, labels); Lightning takes a plain list for several loaders."""


class Constant(nn.Module):
    """Logits that are parameters and ignore the images; `outputs` turns them into the output of training mode."""

    def __init__(self, outputs: Callable[..., Any], *logits: list[float]) -> None:
        super().__init__()
        self.outputs = outputs
        self.fc = nn.ParameterList(torch.tensor(row) for row in logits)

    def forward(self, images: Tensor) -> Any:
        first, *others = (row.expand(len(images), -1) for row in self.fc)
        return self.outputs(first, *others) if self.training else first


class Blind(nn.Linear):
    """A network whose logits are constant in evaluation mode, so that its validation loss never falls."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images.flatten(1))
        return logits if self.training else torch.zeros_like(logits)


class Rates(Callback):
    """Record the learning rates of each step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: SGD) -> None:
        self.seen.append([group["lr"] for group in optimizer.param_groups])


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    layers = {
        **{"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "dropout": nn.Dropout(0.5)},
        **{"flatten": nn.Flatten(), "fc": nn.Linear(4 * 2 * 2, 3)},
    }
    return nn.Sequential(OrderedDict(layers))


def batches(*sizes: int, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return Batches(
        (torch.randn(size, 3, 4, 4, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in sizes
    )


def joined(found: Batches) -> tuple[Tensor, Tensor]:
    images, labels = zip(*found, strict=True)
    return torch.cat(images), torch.cat(labels)


def classifier(network: nn.Module, **options: object) -> SceneClassifier:
    usual = {
        **{"optimizer": SGD, "scheduler": CONSTANT, "interval": "epoch", "num_classes": 3, "lr": 0.1},
        **{"head_lr_scale": 1.0, "label_smoothing": 0.0, "seed": 0},
    }
    return SceneClassifier(network, ["fc"], **(usual | options))


def fit(
    module: SceneClassifier, train: Batches, epochs: int = 1, callback: Callback | None = None, **options: Any
) -> Trainer:
    trainer = Trainer(
        **QUIET,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        max_epochs=epochs,
        callbacks=callback,
        **options,
    )
    trainer.fit(module, train, [batches(4, 1, 2, seed=1), batches(3, 5, seed=2)])
    return trainer


def cross_entropy_by_hand(logits: list[float], label: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[label]


def test_metrics_of_an_epoch_are_exact_means_over_images_of_unequal_batches() -> None:
    network, train = tiny(), batches(5, 2, 3)
    seen: list[Tensor] = []
    network.register_forward_hook(lambda layer, _, logits: seen.append(logits.detach()) if layer.training else None)
    logged = fit(classifier(network), train).callback_metrics
    found = {name: value.item() for name, value in logged.items()}
    network.eval()

    def expected(logits: Tensor, labels: Tensor) -> tuple[float, float]:
        loss = log_loss(labels, logits.double().softmax(1).numpy(), labels=[0, 1, 2])
        return loss, accuracy_score(labels, logits.argmax(1))

    with torch.no_grad():
        (val, val_labels), (own, own_labels) = joined(batches(4, 1, 2, seed=1)), joined(batches(3, 5, seed=2))
        val_loss, val_accuracy = expected(network(val), val_labels)
        balanced = balanced_accuracy_score(val_labels, network(val).argmax(1))
        _, train_eval_accuracy = expected(network(own), own_labels)
    train_loss, train_accuracy = expected(torch.cat(seen), joined(train)[1])
    assert found == pytest.approx(
        {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "train_eval_accuracy": train_eval_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "val_balanced_accuracy": balanced,
        },
        rel=1e-5,
    )


def test_each_epoch_counts_its_own_images_alone() -> None:
    network = tiny()
    fit(classifier(network), batches(5, 2, 3))
    module = classifier(network, lr=1e-30)
    module.network[1].momentum = 0.0  # the statistics of the norm stay, so both epochs see the same network
    after_one = fit(module, batches(5, 2, 3)).callback_metrics
    after_two = fit(deepcopy(module), batches(5, 2, 3), epochs=2).callback_metrics
    for name in ("val_loss", "val_accuracy", "train_eval_accuracy"):
        assert after_two[name] == after_one[name]


def test_label_smoothing_is_torchs_and_is_not_used_in_validation() -> None:
    logits, smoothing = [2.0, -1.0, 0.5], 0.3
    module = classifier(Constant(lambda only: only, logits), label_smoothing=smoothing, lr=1e-30)
    train = batches(5, 2, 3)
    logged = fit(module, train).callback_metrics
    labels = joined(train)[1]
    smoothed = functional.cross_entropy(torch.tensor([logits]).expand(10, 3), labels, label_smoothing=smoothing)
    assert logged["train_loss"].item() == pytest.approx(smoothed.item())
    # by hand (Szegedy et al. 2016): 0.7 of the target on the label, 0.3 on all classes alike
    plain = [[cross_entropy_by_hand(logits, label) for label in range(3)][int(label)] for label in labels]
    uniform = np.mean([cross_entropy_by_hand(logits, label) for label in range(3)])
    assert smoothed.item() == pytest.approx(0.7 * np.mean(plain) + 0.3 * uniform)
    val_labels = joined(batches(4, 1, 2, seed=1))[1].tolist()
    expected = np.mean([cross_entropy_by_hand(logits, label) for label in val_labels])
    assert logged["val_loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("outputs", "logits", "weight"),
    [
        (GoogLeNetOutputs, [[1.0, 0.0, -1.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0]], 0.3),
        (InceptionOutputs, [[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], 0.4),
    ],
)
def test_auxiliary_losses_have_the_weights_of_their_papers(
    outputs: Callable[..., Any], logits: list[list[float]], weight: float
) -> None:
    images = torch.zeros(2, 3, 4, 4)
    loss = classifier(Constant(outputs, *logits)).training_step((images, torch.tensor([2, 0])), 0)
    main, *others = [np.mean([cross_entropy_by_hand(row, label) for label in (2, 0)]) for row in logits]
    assert loss.item() == pytest.approx(main + weight * sum(others))


def test_the_logged_training_loss_is_that_of_the_main_logits() -> None:
    logits = [[1.0, 0.0, -1.0], [0.0, 9.0, 0.0]]
    train = batches(5, 2)
    logged = fit(classifier(Constant(InceptionOutputs, *logits), lr=1e-30), train).callback_metrics
    labels = joined(train)[1].tolist()
    expected = np.mean([cross_entropy_by_hand(logits[0], label) for label in labels])
    assert logged["train_loss"].item() == pytest.approx(expected)


def test_auxiliary_logits_that_are_switched_off_add_no_loss() -> None:
    network = Constant(lambda main: GoogLeNetOutputs(main, None, None), [1.0, 0.0, -1.0])
    loss = classifier(network).training_step((torch.zeros(1, 3, 4, 4), torch.tensor([0])), 0)
    assert loss.item() == pytest.approx(cross_entropy_by_hand([1.0, 0.0, -1.0], 0))


def dropped(num_batches: int, *, seed: int = 0, disturbed: bool = False) -> dict[tuple[int, int], Tensor]:
    """Return the output of dropout at each (epoch, step) of two epochs."""
    network, found = tiny(), {}
    module = classifier(network, seed=seed)
    counts: defaultdict[int, int] = defaultdict(int)

    def note(layer: nn.Module, _: object, passed: Tensor) -> None:
        if layer.training:
            epoch = module.current_epoch
            found[epoch, counts[epoch]] = passed != 0
            counts[epoch] += 1
            if disturbed:
                torch.rand(epoch + 17)

    network.dropout.register_forward_hook(note)
    torch.manual_seed(99 if disturbed else 1)
    fit(module, batches(*[4] * num_batches), epochs=2)
    return found


def test_dropout_is_a_function_of_seed_epoch_and_step_alone() -> None:
    three = dropped(3)
    two = dropped(2, disturbed=True)
    assert set(three) == {(epoch, step) for epoch in (0, 1) for step in (0, 1, 2)}
    assert all(torch.equal(two[where], three[where]) for where in two)
    masks = list(three.values())
    assert not any(torch.equal(masks[i], masks[j]) for i in range(6) for j in range(i))
    assert not any(torch.equal(mask, three[where]) for where, mask in dropped(3, seed=1).items())


class Gradients(Callback):
    """Record whether there are gradients at the start of a batch."""

    def __init__(self) -> None:
        self.seen: list[set[bool]] = []

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        self.seen.append({parameter.grad is not None for parameter in module.parameters()})


def test_gradients_are_freed_after_each_step_and_kept_until_it() -> None:
    alone, gathered = Gradients(), Gradients()
    fit(classifier(tiny()), batches(4, 4, 4), callback=alone)
    assert alone.seen == [{False}] * 3
    fit(classifier(tiny()), batches(4, 4, 4, 4), callback=gathered, accumulate_grad_batches=2)
    assert gathered.seen == [{False}, {True}, {False}, {True}]


def test_a_schedule_by_the_step_moves_after_each_step_and_keeps_the_heads_share() -> None:
    scheduler = partial(LambdaLR, lr_lambda=partial(warmup_cosine, num_steps=6, warmup_fraction=1 / 3))
    seen = Rates()
    fit(classifier(tiny(), scheduler=scheduler, interval="step", head_lr_scale=10.0), batches(4, 4, 4), 2, seen)
    # two of six steps rise, then (1 + cos(k pi / 4)) / 2 for k = 0..3
    factors = [1 / 3, 2 / 3, 1.0, 0.8535534, 0.5, 0.1464466]
    assert [rates[0] for rates in seen.seen] == pytest.approx([0.1 * factor for factor in factors], rel=1e-6)
    assert all(rates == pytest.approx([rates[0]] * 2 + [10 * rates[0]] * 2) for rates in seen.seen)


def test_a_schedule_by_the_epoch_moves_after_each_epoch() -> None:
    seen = Rates()
    scheduler = partial(StepLR, step_size=2, gamma=0.1)
    fit(classifier(tiny(), scheduler=scheduler), batches(4, 4), 5, seen)
    expected = [0.1] * 4 + [0.01] * 4 + [0.001] * 2
    assert [rates[0] for rates in seen.seen] == pytest.approx(expected)


def test_a_plateau_lowers_the_rate_when_the_loss_has_not_fallen_for_longer_than_the_patience() -> None:
    network = nn.Module()
    network.fc = Blind(48, 3)
    network.forward = network.fc.forward  # type: ignore[method-assign]
    seen = Rates()
    scheduler = partial(ReduceLROnPlateau, factor=0.1, patience=1)
    trainer = fit(classifier(network, scheduler=scheduler, interval="validation"), batches(4, 4), 6, seen)
    assert trainer.callback_metrics["val_loss"].item() == pytest.approx(math.log(3))
    # epoch 0 sets the mark, 1 and 2 miss it: the rate falls for 3; 3 and 4 miss it: it falls for 5
    expected = [0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert [rates[0] for rates in seen.seen[::2]] == pytest.approx(expected)
    assert seen.seen[::2] == seen.seen[1::2]


def test_logits_of_a_call_are_the_networks_in_evaluation_mode() -> None:
    module = classifier(tiny()).eval()
    images = batches(4)[0][0]
    assert torch.equal(module(images), module.network(images))


@pytest.mark.parametrize("is_mixed", [False, True])
def test_a_pass_adds_the_gradients_of_the_smoothed_loss(is_mixed: bool) -> None:
    (images, labels), layer = batches(5)[0], nn.Linear(48, 3)
    targets = nn.functional.one_hot(labels, 3).float()
    if is_mixed:
        targets = 0.3 * targets + 0.7 * targets.roll(1, 0)
    network = nn.Sequential(nn.Flatten(), layer)
    # Of softmax and cross entropy: mean over images of (probabilities - targets) times the input.
    rest = layer(images.flatten(1)).softmax(1) - (0.9 * targets + 0.1 / 3)
    expected = (rest.T @ images.flatten(1) / 5).detach()
    float32 = Runtime(torch.device("cpu"), "32-true", threads=1)
    for times in (1, 2):
        forward_backward(network, images, targets if is_mixed else labels, float32, label_smoothing=0.1)
        torch.testing.assert_close(layer.weight.grad, times * expected)


WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_class_weights_multiply_each_term_of_the_smoothed_loss(is_mixed: bool, precision: str) -> None:
    (images, labels), layer = batches(5)[0], nn.Linear(48, 3)
    network = nn.Sequential(nn.Flatten(), layer)
    shares = nn.functional.one_hot(labels, 3).float()
    if is_mixed:
        shares = 0.3 * shares + 0.7 * shares.roll(1, 0)
    with Runtime(torch.device("cpu"), precision, threads=1).autocast():
        logits = network(images)
        targets = shares if is_mixed else labels
        found = forward_pass(network, images, targets, label_smoothing=0.1, class_weights=WEIGHTS).loss
    # As torch documents it: a mean of classes is divided by the sum of their weights, one of shares by their number.
    terms = -(WEIGHTS * (0.9 * shares + 0.1 / 3) * logits.float().log_softmax(1)).sum(1)
    expected = terms.sum() / (5 if is_mixed else WEIGHTS[labels].sum())
    torch.testing.assert_close(found.float(), expected, rtol=1e-5 if precision == "32-true" else 1e-2, atol=0)


def test_class_weights_are_in_the_training_loss_alone_and_in_no_file() -> None:
    plain, weighted = (classifier(tiny(), class_weights=weights, lr=1e-30) for weights in (None, WEIGHTS))
    assert weighted.state_dict().keys() == plain.state_dict().keys()
    of_plain, of_weighted = (fit(module, batches(5, 2, 3)).callback_metrics for module in (plain, weighted))
    assert of_weighted["val_loss"] == of_plain["val_loss"]
    assert of_weighted["train_loss"] != of_plain["train_loss"]
