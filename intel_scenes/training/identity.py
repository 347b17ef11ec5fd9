"""What is known of a run before its first step: which it is, what pairs it with others, where it runs."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import intel_scenes
from intel_scenes import files, record
from intel_scenes.data.batches import order
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.models.weights import Weights, kept_beside_state
from intel_scenes.training import configuration

LIBRARIES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy", "pillow")


def identity(
    plain: Mapping[str, Any],
    choices: Mapping[str, str | None],
    weights: Weights | None,
    data: SceneDataModule,
    network: nn.Module,
) -> dict[str, Any]:
    """Identity, pairing and settings of `summary.json`, but for the digests of the configuration."""
    orders = [order(plain["seed"], epoch, len(data.train)).tolist() for epoch in (0, 1)]
    return {
        **{group: choices.get(group) for group in record.GROUP_KEYS},
        "recipe_resolved": {"recipe": configuration.effective_recipe(plain), "augment": plain["augment"]},
        "model_name": plain["model"]["name"],
        "weights": weights and weights.name,
        "weights_digest": weights and weights.digest,
        "seed": plain["seed"],
        "classes": list(data.classes),
        "data_fingerprint": data.fingerprint,
        "split_digest": files.digest([data.scenes.paths[index] for index in data.val]),
        "order_digest": files.digest(orders),
        "init_digest": state_digest(network),
        "lr": configuration.effective_lr(plain),
        "batch_size": data.batch_size,
        "image_size": data.view.size,
        "epochs": plain["epochs"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "num_train": len(data.train),
        "num_val": len(data.val),
        "num_test": len(data.test),
        "store_size": data.store_size,
        "store_rule": data.store_rule,
        "transform_input": kept_beside_state(network).get("transform_input"),
        "normalization": {"mean": list(data.view.mean), "std": list(data.view.std)},
        "test_duplicates": data.test_duplicates,
        "test_folder": str(data.test_scenes.root.absolute()),
    }


def state_digest(network: nn.Module) -> str:
    """SHA-256 (hex) of the names and values of all parameters and buffers."""
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def circumstances(device: torch.device) -> dict[str, Any]:
    """Device, versions of the libraries and state of the code, as `summary.json` holds them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
    return {
        "device": name,
        "versions": {"python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
        "package_version": version("intel-scenes"),
        **git_state(),
    }


@cache
def git_state() -> dict[str, Any]:
    """Commit of a source checkout and whether it was changed; nulls where the package is installed from a wheel.

    As they were when a process first asked: that is the code it has loaded, whatever happens to the files later.
    """
    root = Path(intel_scenes.__file__).parent.parent
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    try:
        commit, changed = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):  # no git, no commit, or not our repository
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(changed)}
