"""Features of a frozen backbone, computed once for all runs, and heads that are trained on them."""

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

RULE = "evaluation-view-1"  # part of the cache key: change it if features of the same key would change
HEAD_ITERATIONS, HEAD_DECAY = 100, 0.01
BATCH_SIZE = 64  # not that of a run: the last bits of a feature depend on it, and all runs share the features


def linear_head(network: nn.Module) -> tuple[str, nn.Linear] | None:
    """Return qualified name and layer of the head of a network; None if it is not linear."""
    name, layer = next(iter(heads(network).items()), ("", None))  # auxiliary heads follow
    return (name, layer) if isinstance(layer, nn.Linear) else None


class Head(nn.Module):
    """The last layer of a network, under its name there: (B, D) features to (B, num_classes) logits.

    Attributes:
        name: Qualified name of the layer.
    """

    def __init__(self, network: nn.Module, model_name: str) -> None:
        """Take the last layer of a network.

        Raises:
            UserError: The network does not end in a linear layer.
        """
        super().__init__()
        named_layer = linear_head(network)
        if named_layer is None:
            raise UserError(
                f"recipe.trained=head needs a model that ends in a linear layer, which {model_name} does not: "
                "choose another model, or set recipe.trained=all"
            )
        self.name, layer = named_layer
        *parents, last = self.name.split(".")
        module: nn.Module = self
        for parent in parents:
            module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.add_module(last, layer)

    @property
    def layer(self) -> nn.Linear:
        """The layer, which the network shares."""
        layer = self.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
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
    """Return the same splits with the features of the backbone in evaluation mode instead of the images.

    Args:
        network: Network that ends in the layer of `head`.
        head: Head of the network, which is left out.
        data: The images.
        model: Configuration of the backbone.
        weights: Weights of the backbone; None for random ones.
        seed: Seed of random weights.
        runtime: Device and precision to compute with.

    Returns:
        The features, and the seconds spent on them; None if they were in the cache.

    Raises:
        UserError: The cache cannot be written or is corrupt.
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
                features = all_features(network, images, data.pipeline.eval_view, runtime, bar)
                np.save(partial / f"{split}.npy", features)
        network.cpu().train()  # frees the device for the training
        network.set_submodule(head.name, head.layer)
        seconds = time.perf_counter() - started

    make_once(folder, write, verify=data.digests.verify)
    train, test = arrays(folder, *splits)
    return data.with_features(train, test), seconds


def features_folder(
    data: SceneDataModule, *, model: ModelConfig, weights: Weights | None, seed: int, runtime: Runtime
) -> Path:
    """Return the cache folder of the features that `frozen_features` computes with the same arguments."""
    where = circumstances(runtime.device)
    key = {
        "rule": [RULE, STORE_RULES[data.store_rule], BATCH_SIZE],
        "model": features_key(model),
        "weights": weights.digest if weights else f"random of seed {seed}",
        "images": [data.splits.fingerprint, data.store_size],
        "view": asdict(data.view),  # includes the interpolation of images that are stored whole
        "where": [where.device, runtime.precision, runtime.threads],
        "versions": [where.versions[name] for name in ("torch", "torchvision", "pillow")],
    }
    return data.cache_dir / f"features-{files.digest(key)[:32]}"


def fit_head(
    layer: nn.Linear, images: Stored, chosen: Indices, label_smoothing: float, class_weights: Tensor | None = None
) -> None:
    """Fit a layer to features by L-BFGS: logistic regression with a small L2 penalty.

    The first half of LP-FT (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", 2022): a head that fits sends no large gradients into the backbone.

    Args:
        layer: (B, D) features to (B, num_classes) logits; the fit starts from its weights.
        images: The features.
        chosen: Positions of the images to fit.
        label_smoothing: Label smoothing of the training that follows.
        class_weights: (num_classes,) class weights of that training; None weights all classes alike.
    """
    batch, device = images.batch(chosen), layer.weight.device
    features, labels = batch.images.to(device), batch.labels.to(device)
    weight = None if class_weights is None else class_weights.to(device)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=HEAD_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(layer(features), labels, weight=weight, label_smoothing=label_smoothing)
        value = value + 0.5 * HEAD_DECAY * layer.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    optimizer.zero_grad()


def all_features(
    network: nn.Module, images: Stored, preprocess: Callable[[Tensor], Tensor], runtime: Runtime, bar: "tqdm[NoReturn]"
) -> npt.NDArray[np.float32]:
    """Return the (N, D) features of all images, with progress on a bar; the arguments are those of `features_of`."""
    batches = []
    for features in features_of(network, images, preprocess, runtime):
        batches.append(features)
        bar.update(len(features))
    return np.concatenate(batches)


@torch.inference_mode()
def features_of(
    network: nn.Module, images: Stored, preprocess: Callable[[Tensor], Tensor], runtime: Runtime
) -> Iterator[npt.NDArray[np.float32]]:
    """Compute the features of images, in their order.

    Args:
        network: (B, 3, H, W) images to (B, D) features, in evaluation mode.
        images: The stored images.
        preprocess: Stored images on the device to the input of the network.
        runtime: Device and precision to compute with.

    Yields:
        (B, D) features of each batch.
    """
    for batch in EvalBatches(images, np.arange(len(images.labels)), BATCH_SIZE):
        with runtime.autocast():
            features: Tensor = network(preprocess(on_device(batch.images, runtime.device)))
        yield features.float().cpu().numpy()


def add_backbone(folder: Path, network: nn.Module) -> None:
    """Replace the head in a run's best checkpoint by the whole network: its backbone and the trained head.

    Raises:
        UserError: The checkpoint is missing or corrupt.
    """
    checkpoint = read_best(folder) | {"state_dict": checkpoint_state(network)} | kept_beside_state(network)
    files.write_whole(folder / record.BEST, partial(save, checkpoint))
