"""A frozen backbone: what it makes of every image, computed once for all runs, and its head, trained on that alone."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from intel_scenes import files, record
from intel_scenes.config import ModelConfig
from intel_scenes.data import progress_bar
from intel_scenes.data.batches import EvalBatches
from intel_scenes.data.cache import arrays, make_once
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.packed import RULES as STORE_RULES
from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Stored
from intel_scenes.data.transfer import on_device
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import heads
from intel_scenes.models.libraries import features_key
from intel_scenes.models.weights import Weights, checkpoint_state, kept_beside_state
from intel_scenes.runtime import Runtime
from intel_scenes.training.checkpoints import read_best, save
from intel_scenes.training.identity import circumstances

RULE = "evaluation-view-1"  # part of the name of what is kept: change it with what a network is shown or asked
HEAD_ITERATIONS, HEAD_DECAY = 100, 0.01
BATCH_SIZE = 64  # never that of a run: the last bits of a feature depend on it, and all runs share them


def linear_head(network: nn.Module) -> tuple[str, nn.Linear] | None:
    """Qualified name and layer of the head that a network ends in; None where that is not linear."""
    name, layer = next(iter(heads(network).items()), ("", None))  # auxiliary heads come later
    return (name, layer) if isinstance(layer, nn.Linear) else None


class Head(nn.Module):
    """The last layer of a network alone, under the name that it has there: (B, D) features to (B, num_classes) logits.

    Attributes:
        name: Qualified name of the layer.
    """

    def __init__(self, network: nn.Module, model_name: str) -> None:
        """Finds the layer.

        Raises:
            UserError: The network does not end in a linear layer.
        """
        super().__init__()
        found = linear_head(network)
        if found is None:
            raise UserError(
                f"recipe.trained=head needs a model that ends in a linear layer, which {model_name} does not: "
                "choose another, or recipe.trained=all"
            )
        self.name, layer = found
        *parents, last = self.name.split(".")
        place: nn.Module = self
        for parent in parents:
            place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(last, layer)

    @property
    def layer(self) -> nn.Linear:
        """The layer itself, which the network keeps as well."""
        layer = self.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.layer(features)
        return logits


def frozen_features(
    network: nn.Module,
    head: Head,
    data: SceneDataModule,
    *,
    model: ModelConfig,
    weights: Weights | None,
    seed: int,
    runtime: Runtime,
) -> tuple[SceneDataModule, float | None]:
    """The same splits, each image as the features that the backbone makes of it in evaluation mode.

    Args:
        network: Ends in the layer of `head`.
        head: Is left out.
        data: The images.
        model: The backbone.
        weights: Of the backbone.
        seed: That made them where they are random.
        runtime: Where and how precisely to compute.

    Returns:
        The features, and the seconds that they took; None where they were in the cache.

    Raises:
        UserError: The cache cannot be written, or is damaged.
    """
    folder = features_folder(data, model=model, weights=weights, seed=seed, runtime=runtime)
    splits = {"train": data.images, "test": data.test_images}
    seconds = None

    def write(partial: Path) -> None:
        nonlocal seconds
        started = time.perf_counter()
        network.set_submodule(head.name, nn.Identity())
        network.to(runtime.device).to(memory_format=torch.channels_last).eval()
        with progress_bar.bar(sum(len(images.labels) for images in splits.values()), "features") as bar:
            for split, images in splits.items():
                found = all_features(network, images, data.pipeline.eval_view, runtime, bar)
                np.save(partial / f"{split}.npy", found)
        network.cpu().train()  # its place is needed for the training
        network.set_submodule(head.name, head.layer)
        seconds = time.perf_counter() - started

    make_once(folder, write)
    train, test = arrays(folder, *splits)
    return data.with_features(train, test), seconds


def features_folder(
    data: SceneDataModule, *, model: ModelConfig, weights: Weights | None, seed: int, runtime: Runtime
) -> Path:
    """Where the cache keeps the features that `frozen_features` computes with the same arguments."""
    where = circumstances(runtime.device)
    key = {
        "rule": [RULE, STORE_RULES[data.store_rule], BATCH_SIZE],
        "model": features_key(model),
        "weights": weights.digest if weights else f"random of seed {seed}",
        "images": [data.splits.fingerprint, data.store_size],
        "view": asdict(data.view),  # the interpolation of whole pictures among it
        "where": [where.device, runtime.precision, runtime.threads],
        "versions": [where.versions[name] for name in ("torch", "torchvision", "pillow")],
    }
    return data.cache_dir / f"features-{files.digest(key)[:32]}"


def fit_head(
    layer: nn.Linear, images: Stored, chosen: Indices, label_smoothing: float, class_weights: Tensor | None = None
) -> None:
    """Fits a layer to the features of some images: logistic regression with a little decay, by L-BFGS.

    The first half of Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
    2022: a head that fits already sends no large gradients into the backbone.

    Args:
        layer: (B, D) features to (B, num_classes) logits; its weights are where the fit begins.
        images: Features.
        chosen: Positions of the images that count.
        label_smoothing: As in the training that follows.
        class_weights: (num_classes,) as there; None weighs all alike.
    """
    batch, device = images.batch(chosen), layer.weight.device
    features, labels = batch.images.to(device), batch.labels.to(device)
    weight = None if class_weights is None else class_weights.to(device)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=HEAD_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = functional.cross_entropy(layer(features), labels, weight=weight, label_smoothing=label_smoothing)
        found = found + 0.5 * HEAD_DECAY * layer.weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    optimizer.zero_grad()


def all_features(
    network: nn.Module, images: Stored, seen: Callable[[Tensor], Tensor], runtime: Runtime, bar: "tqdm[NoReturn]"
) -> npt.NDArray[np.float32]:
    """The (N, D) features of all images together, counted by a bar; the arguments are those of `features_of`."""
    found = []
    for features in features_of(network, images, seen, runtime):
        found.append(features)
        bar.update(len(features))
    return np.concatenate(found)


@torch.inference_mode()
def features_of(
    network: nn.Module, images: Stored, seen: Callable[[Tensor], Tensor], runtime: Runtime
) -> Iterator[npt.NDArray[np.float32]]:
    """What a network in evaluation mode makes of images.

    Args:
        network: (B, 3, H, W) to (B, D) features.
        images: Of which each is seen once, in their order.
        seen: Stored images on the device to what the network takes.
        runtime: Where and how precisely to compute.

    Yields:
        (B, D) of each batch.
    """
    for batch in EvalBatches(images, np.arange(len(images.labels)), BATCH_SIZE):
        with runtime.autocast():
            features: Tensor = network(seen(on_device(batch.images, runtime.device)))
        yield features.float().cpu().numpy()


def add_backbone(folder: Path, network: nn.Module) -> None:
    """Writes the weights of a whole network, its backbone beside the trained head, into a run's checkpoint of the head.

    Raises:
        UserError: The checkpoint is missing or damaged.
    """
    checkpoint = read_best(folder) | {"state_dict": checkpoint_state(network)} | kept_beside_state(network)
    files.write_whole(folder / record.BEST, partial(save, checkpoint))
