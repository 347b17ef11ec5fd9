"""Pretrained weights by name or file: which weights a name means, their preprocessing, their state dict."""

import socket
import sys
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import GoogLeNet, Inception3

from intel_scenes import files, record
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.models.own import OWN

DOWNLOAD_TIMEOUT_SECONDS = 20.0
ALTERNATIVES = "set model.weights to a file, or to null for random weights"

_FILE_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")
_OWN_CROP_SIZE = 64
_NETWORK_PREFIX = "network."  # of the tensors of the network in a checkpoint of SceneClassifier


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a network: resize, center crop, scaling to 0..1, normalization per channel."""

    crop_size: int
    resize_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class OfTimm:
    """Published weights of timm, such as `resnet50.a1_in1k`."""

    name: str


@dataclass(frozen=True)
class Weights:
    """Weights that exist but are not loaded; `source` is a file, or an entry of torchvision or timm."""

    name: str
    digest: str
    source: Path | models.WeightsEnum | OfTimm


def preprocessing_of(model_name: str, weights: str | None) -> Preprocessing:
    """Return the preprocessing of a network with these weights; a file need not exist yet.

    Args:
        model_name: A classifier of torchvision, such as `resnet50`, or of this package.
        weights: As in `resolve_weights`.

    Returns:
        The preprocessing that torchvision publishes with the weights; a file is assumed to need that of the model's
        default weights. For random weights, and for models without published weights, the whole image with the
        normalization of ImageNet.

    Raises:
        UserError: There is no classifier of this name.
    """
    published = published_weights(model_name)
    if not published:
        return whole_image(_OWN_CROP_SIZE)
    preset = published.get(weights or "DEFAULT", published["DEFAULT"]).transforms()
    crop_size, resize_size = preset.crop_size[0], preset.resize_size[0]
    if weights is None:
        return whole_image(crop_size)
    return Preprocessing(
        crop_size, resize_size, preset.interpolation.value, mean=tuple(preset.mean), std=tuple(preset.std)
    )


def resolve_weights(model_name: str, weights: str | None) -> Weights | None:
    """Resolve a name of weights without loading or downloading them.

    Args:
        model_name: A classifier of torchvision, such as `resnet50`, or of this package.
        weights: `DEFAULT`, another name of torchvision's weights for this model, a file, or None for random weights.

    Returns:
        The weights. Their digest is the SHA-256 of a file, or torchvision's file name, which ends in the beginning of
        its SHA-256.

    Raises:
        UserError: The model, the weights or the file do not exist.
    """
    published = published_weights(model_name)
    if weights in published:
        member = published[weights]
        return Weights(member.name, PurePosixPath(urlparse(member.url).path).name, member)
    near = did_you_mean((weights or "").upper(), published)
    return weights_of_file(model_name, weights, f"weights of {model_name}{near}", published)


def weights_of_file(
    model_name: str, weights: str | None, alternative: str, published: Collection[str]
) -> Weights | None:
    """Return the weights in a file, or None for random weights.

    Args:
        model_name: Model that the weights are for.
        weights: Value of `model.weights`, which is none of `published`.
        alternative: What else the value could have been, for the message.
        published: Names of the weights that the library of the model publishes.

    Raises:
        UserError: The value is not a file, or the file cannot be read.
    """
    if weights is None:
        return None
    path = Path(weights).expanduser()
    if path.suffix in _FILE_SUFFIXES or path.is_file():
        return Weights(path.name, _sha256(path), path)
    if not published:
        raise UserError(
            f"model.weights={weights} is not a file, and {model_name} has no published weights: {ALTERNATIVES}"
        )
    raise UserError(
        f"model.weights={weights} is neither a file nor {alternative}: choose {', '.join(published)}, null (random "
        "weights) or a .pth, .pt, .ckpt or .safetensors file"
    )


def published_weights(model_name: str) -> dict[str, models.WeightsEnum]:
    """Return the weights that torchvision publishes for a model by name; empty for the networks of this package.

    Raises:
        UserError: There is no classifier of this name.
    """
    if model_name in OWN:
        return {}
    names = models.list_models(module=models)
    if model_name not in names:
        raise UserError(
            f"model.name={model_name} is not a classifier of torchvision"
            f"{did_you_mean(model_name.lower(), [*names, *OWN])}: choose one of the {len(names)} names that "
            f"torchvision.models.list_models(module=torchvision.models) returns, or {' or '.join(OWN)}"
        )
    members = models.get_model_weights(model_name).__members__
    # Weights without categories (vgg16's IMAGENET1K_FEATURES) hold NaN in the classifier.
    return {"DEFAULT": members["DEFAULT"]} | {name: w for name, w in members.items() if w.meta["categories"]}


def state_of(weights: Weights, model_name: str) -> OrderedDict[str, Tensor]:
    """Return the state dict of weights; torchvision's are downloaded unless they are in the cache.

    Raises:
        UserError: The weights cannot be downloaded or read.
    """
    source = weights.source
    assert not isinstance(source, OfTimm), "weights of timm are loaded by timm_backbones"
    return read_state(source) if isinstance(source, Path) else _download(model_name, weights.name, source)


def read_state(path: Path) -> OrderedDict[str, Tensor]:
    """Read the state dict of a network from a file of weights or a checkpoint of this package.

    Raises:
        UserError: The file does not hold a state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return OrderedDict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        if any(key.startswith(_NETWORK_PREFIX) for key in state):  # a checkpoint of this package
            state = network_state(state)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("a state dict holds tensors only")
    except Exception as error:  # a foreign or corrupt file can raise anything
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}): give a state dict, saved with "
            "torch.save(network.state_dict(), FILE) or safetensors"
        ) from error
    return state if isinstance(state, OrderedDict) else OrderedDict(state)


def network_state(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return the state dict of the network from that of a SceneClassifier, without its other tensors."""
    tensors = {name: tensor for name, tensor in state.items() if name.startswith(_NETWORK_PREFIX)}
    return OrderedDict((name.removeprefix(_NETWORK_PREFIX), tensor) for name, tensor in tensors.items())


def checkpoint_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a network as a SceneClassifier's checkpoint holds it, on the CPU."""
    return {f"{_NETWORK_PREFIX}{name}": tensor.cpu() for name, tensor in network.state_dict().items()}


def transforms_input(weights: Weights | None) -> bool:
    """Return whether googlenet or inception_v3 with these weights converts images to TensorFlow's normalization.

    Torchvision's weights were converted from TensorFlow, so they need it, and a file is assumed to need it unless it
    says otherwise, as checkpoints of this package do. For an older checkpoint, which does not, the record beside it
    tells whether the run started from pretrained weights.
    """
    if weights is None:
        return False
    path = weights.source
    if not isinstance(path, Path) or path.suffix == ".safetensors":
        return True
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "transform_input" in content:
            return bool(content["transform_input"])
    except Exception:  # no such file, or one written before torch 1.6; reading its weights will report the error
        return True
    summary = record.Summary.peek(path.parent.parent) if path.parts[-2:] == PurePosixPath(record.BEST).parts else None
    return summary is None or summary.weights is not None


def kept_beside_state(network: nn.Module) -> dict[str, bool]:
    """Return the settings that a checkpoint holds beside the state dict because they change the network's output."""
    return {"transform_input": network.transform_input} if isinstance(network, GoogLeNet | Inception3) else {}


def whole_image(size: int) -> Preprocessing:
    """Return preprocessing without cropping, with the normalization of ImageNet."""
    return Preprocessing(size, size, "bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _sha256(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise UserError(
            f"model.weights={path} cannot be read ({error.strerror}: {path.absolute()}): {ALTERNATIVES}"
        ) from error


def _download(model_name: str, name: str, source: models.WeightsEnum) -> OrderedDict[str, Tensor]:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        # torch.hub announces the download on stdout, which is reserved for the results of a command.
        with redirect_stdout(sys.stderr):
            state: OrderedDict[str, Tensor] = source.get_state_dict(
                check_hash=True, map_location="cpu", weights_only=True
            )
        return state
    except (OSError, HTTPException, RuntimeError, UnpicklingError, EOFError) as error:
        raise UserError(
            f"the weights {name} of {model_name} cannot be downloaded from {source.url} ({reason(error)}): "
            f"{ALTERNATIVES}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def reason(error: Exception) -> str:
    """Return the first line of an exception's message, to be quoted within a sentence."""
    return str(error).partition("\n")[0].rstrip(".!") or type(error).__name__
