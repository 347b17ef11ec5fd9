"""Summary of a run before its first step: identity, pairing, settings and circumstances."""

import hashlib
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import intel_scenes
from intel_scenes import files
from intel_scenes.config import RunConfig
from intel_scenes.data.batches import order
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.digests import Facts, digests
from intel_scenes.models import libraries
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.weights import Weights, kept_beside_state
from intel_scenes.record import Normalization, Origin, Status, Summary
from intel_scenes.runtime import Runtime, resolve_precision, resolve_threads
from intel_scenes.sections import as_plain

LIBRARIES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy", "pillow")


def facts_of(config: RunConfig, weights: Weights | None, data: SceneDataModule) -> Facts:
    """Resolve what the configuration names or leaves open: weights, images, precision, threads."""
    return Facts(
        weights=weights.digest if weights else None,
        data=data.splits.fingerprint,
        precision=resolve_precision(config.trainer.precision, config.trainer.accelerator),
        threads=resolve_threads(config.threads),
        stored=(data.store_size, data.view.interpolation) if data.store_rule == "whole" else None,
        source=libraries.source_digest(config.model),
    )


def identity(
    config: RunConfig,
    origin: Origin,
    facts: Facts,
    weights: Weights | None,
    data: SceneDataModule,
    network: nn.Module,
    runtime: Runtime,
) -> Summary:
    """Return the summary of a run before its first step: identity, pairing, settings and circumstances.

    Args:
        config: The resolved configuration.
        origin: Overrides that were typed and files of `conf/` that were chosen.
        facts: What the configuration names or leaves open, resolved.
        weights: Initial weights; None for random ones.
        data: The images.
        network: The network before its first step.
        runtime: Device and precision of the training.
    """
    digest, splits, where = digests(config, facts), data.splits, circumstances(runtime.device)
    orders = [order(config.seed, epoch, len(splits.train)) for epoch in (0, 1)]
    if splits.num_whole is not None:  # two subsets of one size hold different images
        orders = [splits.train[positions] for positions in orders]
    return Summary(
        status=Status.INTERRUPTED,
        study=origin.choices.get("study"),
        model=origin.choices.get("model"),
        optim=origin.choices.get("optim"),
        scheduler=origin.choices.get("scheduler"),
        recipe=origin.choices.get("recipe"),
        recipe_resolved={"recipe": as_plain(config.effective_recipe), "augment": as_plain(config.augment)},
        model_name=config.model.name,
        weights=weights.name if weights else None,
        seed=config.seed,
        classes=tuple(splits.classes),
        config_digest=digest.config,
        configuration_digest=digest.configuration,
        composition_digest=origin.composition_digest,
        resume_digest=None if _depends_on_devices(config, network) else digest.resume,
        weights_digest=weights.digest if weights else None,
        model_library=libraries.library_of(config.model),
        model_source=facts.source,
        data_fingerprint=splits.fingerprint,
        split_digest=files.digest([splits.scenes.paths[index] for index in splits.val]),
        order_digest=files.digest([positions.tolist() for positions in orders]),
        init_digest=state_digest(network),
        lr=config.lr,
        batch_size=data.batch_size,
        image_size=data.view.size,
        epochs=config.epochs,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        num_train=len(splits.train),
        num_val=len(splits.val),
        num_test=len(splits.test),
        normalization=Normalization(data.view.mean, data.view.std),
        budget_minutes=config.budget_minutes,
        budget_digest=None if config.budget_minutes is None else digest.budget,
        store_size=data.store_size,
        store_rule=data.store_rule,
        transform_input=kept_beside_state(network).get("transform_input"),
        layout=data.layout.summary(data.val_fraction),
        test_fraction=data.layout.test_fraction,
        primary_metric=config.primary_metric,
        train_fraction=config.data.train_fraction,
        subset_seed=config.subset_seed,
        test_duplicates=tuple(splits.test_duplicates),
        device=where.device,
        precision=runtime.precision,
        threads=runtime.threads,
        versions=where.versions | libraries.versions_of(config.model),
        package_version=where.package_version,
        git_commit=where.git_commit,
        git_dirty=where.git_dirty,
        test_folder=str(splits.test_scenes.root.absolute()),
    )


def _depends_on_devices(config: RunConfig, network: nn.Module) -> bool:
    """Return whether a training uses BatchNorm statistics of the share of each device."""
    is_trained = config.recipe.trains_norms and config.recipe.trained == "all"
    return is_trained and not config.trainer.others.get("sync_batchnorm") and any(batch_norms(network))


def state_digest(network: nn.Module) -> str:
    """Return the SHA-256 (hex) of the names and values of all parameters and buffers."""
    sha256 = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()


@dataclass(frozen=True)
class Circumstances:
    """Device, versions of the libraries and state of the code, under the keys of `summary.json`."""

    device: str
    versions: dict[str, str]
    package_version: str
    git_commit: str | None
    git_dirty: bool | None


def device_name(device: torch.device) -> str:
    """Return the name of a device for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"


def circumstances(device: torch.device) -> Circumstances:
    """Return the device, versions and state of the code of this process."""
    commit, is_dirty = git_state()
    return Circumstances(
        device=device_name(device),
        versions={"python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
        package_version=version("intel-scenes"),
        git_commit=commit,
        git_dirty=is_dirty,
    )


class GitState(NamedTuple):
    """Commit of a source checkout and whether it has changes; None if the package is installed from a wheel."""

    commit: str | None
    is_dirty: bool | None


@cache
def git_state() -> GitState:
    """Return the state of the source checkout at the first call in this process.

    That is the code that the process has loaded, even if the files change later.
    """
    root = Path(intel_scenes.__file__).parent.parent
    if not (root / ".git").exists():
        return GitState(None, None)
    try:
        commit, changed = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):  # no git, no commit, or not our repository
        return GitState(None, None)
    return GitState(commit, bool(changed))
