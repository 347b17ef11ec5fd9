"""Averages of the weights over several windows of one training, evaluated beside the live weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional

from intel_scenes.data.batches import EvalBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import FeaturePipeline
from intel_scenes.data.store import Batch
from intel_scenes.record import AveragedEpoch, Averages
from intel_scenes.runtime import Runtime

FEATURES_PER_BATCH = 512  # few enough to stay in the CPU's cache for all networks after the first
MOST_KEPT = 2**30  # bytes of the features of a split that are kept in order, rather than gathered after each epoch

Split = Literal["train", "val", "test"]


class Score(NamedTuple):
    """Mean cross entropy and accuracy of a network on the images of a split."""

    loss: float
    accuracy: float


def newest_share(window: float, step: int) -> float:
    """Return the weight of the newest value in an average over about the last share `window` of all steps so far.

    Polynomial-decay averaging (Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013),
    which need not know how long the training is: the mean age of the values is that in a uniform average over the last
    share of the steps. With a window of 1 it is the mean of all steps.

    Args:
        window: Share of the steps, above 0 and up to 1.
        step: Number of the step, counted from 1.
    """
    power = 2 / window - 1
    return power / (step + power - 1)


class WindowAverages(Callback):
    """Callback that averages the weights over several windows, and writes `averages.csv` after each epoch.

    Each average is a copy of the network with buffers: statistics of batch norms are averaged as the weights are. The
    network itself is only read, so the training is the same without the callback. It must follow callbacks that correct
    the weights or statistics after a step.
    """

    def __init__(
        self,
        windows: Sequence[float],
        folder: Path,
        runtime: Runtime,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        """Average over the last share of the steps given by each of the `windows`.

        Args:
            windows: Ascending shares, above 0 and up to 1.
            folder: Folder of the run.
            runtime: Device and precision to evaluate with.
            before_writing: Called before each write; raises if this process has lost its claim on the folder.
        """
        self.windows, self.folder, self.runtime, self.before_writing = tuple(windows), folder, runtime, before_writing
        self.averages = Averages()
        self._networks: list[nn.Module] = []  # the live weights as of the end of an epoch, then one for each window
        self._restored: list[dict[str, Tensor]] = []
        self._kept: dict[str, list[Batch]] = {}
        self._step = 0
        self._averaged: list[Tensor] = []  # floating-point tensors of all windows, one window after the other
        self._live: list[Tensor] = []  # those of the network, in the same order, once for each window
        self._decayed: list[int] = []  # positions of parameters

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the network, which is on its device and has the weights of a checkpoint by now."""
        network = _network(pl_module)
        # A copy is never compiled. It is in evaluation mode, whatever the mode of the network.
        self._networks = [deepcopy(network).eval().requires_grad_(False) for _ in (0, *self.windows)]
        for copied, state in zip(self._networks[1:], self._restored, strict=False):
            copied.load_state_dict(state)
        self._restored = []
        self._averaged = [value for copied in self._networks[1:] for value in _floating(copied)]
        self._live = _floating(network) * len(self.windows)
        self._decayed = _decayed(network, trainer.optimizers[0])
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Update the averages after each optimizer step, by one call for all tensors of all windows."""
        step = trainer.global_step
        if step == self._step:  # accumulated gradients
            return
        self._step = step
        num_tensors = len(self._live) // len(self.windows)
        shares = [newest_share(window, step) for window in self.windows for _ in range(num_tensors)]
        torch._foreach_lerp_(self._averaged, self._live, shares)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the live weights and all averages, on the test images only after the last epoch."""
        data: SceneDataModule = trainer.datamodule  # type: ignore[attr-defined]
        network = _network(pl_module)
        with torch.no_grad():
            torch._foreach_copy_(_floating(self._networks[0]), _floating(network))
            for copied in self._networks:
                for count, newest in zip(_counts(copied), _counts(network), strict=True):
                    count.copy_(newest)
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        train, val = self._scores(data, "train"), self._scores(data, "val")
        test = self._scores(data, "test") if is_last else None
        rows = [
            AveragedEpoch(
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                window=window,
                train_loss=train[index].loss,
                train_accuracy=train[index].accuracy,
                val_loss=val[index].loss,
                val_accuracy=val[index].accuracy,
                test_loss=test[index].loss if test else None,
                test_accuracy=test[index].accuracy if test else None,
                weight_norm=self._norm(self._networks[index]),
            )
            for index, window in enumerate((0.0, *self.windows))
        ]
        self.averages = Averages((*self.averages.rows, *rows))
        self.before_writing()
        self.averages.write(self.folder)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows and the averages for `last.ckpt`, which loads with `weights_only=True`."""
        rows = [asdict(row) for row in self.averages.rows]
        return {"rows": rows, "averages": [copied.state_dict() for copied in self._networks[1:]]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows; the averages are restored once the network is on its device."""
        self.averages = Averages(tuple(AveragedEpoch(**row) for row in state_dict["rows"]))
        self._restored = state_dict["averages"]

    @torch.inference_mode()
    def _scores(self, data: SceneDataModule, split: Split) -> list[Score]:
        """Return the scores of all networks on a split; a batch is gathered and preprocessed once for all of them."""
        sums, num_images = [], 0
        for batch in self._batches(data, split):
            images, labels = data.pipeline.eval_view(batch.images), batch.labels
            num_images += len(labels)
            with self.runtime.autocast():
                for network in self._networks:
                    logits = network(images)
                    loss = functional.cross_entropy(logits, labels, reduction="sum")
                    sums.append(torch.stack([loss, (logits.argmax(1) == labels).sum()]))
        totals = torch.stack(sums).cpu().double().view(-1, len(self._networks), 2).sum(0)
        return [Score(*means) for means in (totals / num_images).tolist()]

    def _batches(self, data: SceneDataModule, split: Split) -> Iterable[Batch]:
        """Return all images of a split in batches on the device; those of features are kept for the next epoch."""
        images = data.test_images if split == "test" else data.images
        if not isinstance(data.pipeline, FeaturePipeline):
            return self._on_device(data.eval_batches("train_eval" if split == "train" else split))
        chosen = getattr(data.splits, split)
        features = self._on_device(EvalBatches(images, chosen, FEATURES_PER_BATCH))
        if 4 * images.values.shape[1] * len(chosen) > MOST_KEPT:
            return features
        if split not in self._kept:
            self._kept[split] = list(features)
        return self._kept[split]

    def _on_device(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        return (batch.to(self.runtime.device) for batch in batches)

    def _norm(self, network: nn.Module) -> float:
        parameters = list(network.parameters())
        return float(torch.stack(torch._foreach_norm([parameters[index] for index in self._decayed])).norm())


def _network(module: LightningModule) -> nn.Module:
    network = module.network
    assert isinstance(network, nn.Module)
    return network


def _floating(network: nn.Module) -> list[Tensor]:
    """Return the weights and the buffers of a network that can be averaged."""
    return [value for value in chain(network.parameters(), network.buffers()) if value.is_floating_point()]


def _counts(network: nn.Module) -> list[Tensor]:
    """Return the other buffers."""
    return [value for value in network.buffers() if not value.is_floating_point()]


def _decayed(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
    """Return the positions of the parameters of a network with weight decay: see `parameter_groups`; else of all."""
    groups = [group for group in optimizer.param_groups if not group.get("name", "").endswith("spared")]
    decayed = {id(parameter) for group in groups or optimizer.param_groups for parameter in group["params"]}
    return [index for index, parameter in enumerate(network.parameters()) if id(parameter) in decayed]
