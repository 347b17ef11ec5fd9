"""Weights by name or file: which are meant, how they want an image to be seen, and their state dict."""

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
WHAT_TO_GIVE = "give a file with model.weights=FILE, or model.weights=null for random weights"

_FILE_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")
_OWN_CROP_SIZE = 64
_OF_NETWORK = "network."  # begins the names of its tensors in a checkpoint of ours, which is of a SceneClassifier


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants to see an image: resized, cropped at the centre, scaled to 0..1, normalized per channel."""

    crop_size: int
    resize_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class OfTimm:
    """Weights that timm names, such as `resnet50.a1_in1k`."""

    name: str


@dataclass(frozen=True)
class Weights:
    """Weights that exist but are not loaded: `source` is a file, or what torchvision or timm publishes."""

    name: str
    digest: str
    source: Path | models.WeightsEnum | OfTimm


def preprocessing_of(model_name: str, weights: str | None) -> Preprocessing:
    """Find out how a network with these weights wants to see an image, without looking for a file.

    Args:
        model_name: a classifier of torchvision, such as `resnet50`, or one of ours.
        weights: as for `resolve_weights`.

    Returns:
        What torchvision publishes with the weights; a file is taken to want that of the model's default weights. The
        whole image, normalized as ImageNet, for random weights and where none are published.

    Raises:
        UserError: there is no classifier of this name.
    """
    published = published_weights(model_name)
    if not published:
        return whole_image(_OWN_CROP_SIZE)
    seen = _preprocessing(published.get(weights or "DEFAULT", published["DEFAULT"]))
    return whole_image(seen.crop_size) if weights is None else seen


def resolve_weights(model_name: str, weights: str | None) -> Weights | None:
    """Find out which weights are meant, without loading or downloading them.

    Args:
        model_name: a classifier of torchvision, such as `resnet50`, or one of ours.
        weights: `DEFAULT`, another name of torchvision's weights for this model, a file, or None for random weights.

    Returns:
        The weights. Their digest is a file's sha256, or the name that torchvision publishes them under, which ends in
        the beginning of the sha256.

    Raises:
        UserError: the model, the weights or the file do not exist.
    """
    published = published_weights(model_name)
    if weights in published:
        member = published[weights]
        return Weights(member.name, PurePosixPath(urlparse(member.url).path).name, member)
    near = did_you_mean((weights or "").upper(), published)
    return unpublished(model_name, weights, f"weights of {model_name}{near}", published)


def unpublished(model_name: str, weights: str | None, what: str, published: Collection[str]) -> Weights | None:
    """The weights in a file; None for random ones.

    Args:
        model_name: Whose weights they are.
        weights: What was asked for, which is none of `published`.
        what: It could have been, for the error.
        published: The names of weights that the library of the model has.

    Raises:
        UserError: Something else is asked for, or the file cannot be read.
    """
    if weights is None:
        return None
    if found := weights_file(weights):
        return found
    if not published:
        raise UserError(f"{model_name} has no published weights, so model.weights={weights} is none: {WHAT_TO_GIVE}.")
    raise UserError(
        f"model.weights={weights} is neither a file nor {what}: choose {', '.join(published)}, null (random weights) "
        "or a .pth, .pt, .ckpt or .safetensors file."
    )


def weights_file(weights: str) -> Weights | None:
    """The weights in a file; None where that is not the name of one.

    Raises:
        UserError: It cannot be read.
    """
    path = Path(weights).expanduser()
    is_file = path.suffix in _FILE_SUFFIXES or path.is_file()
    return Weights(path.name, _sha256(path), path) if is_file else None


def published_weights(model_name: str) -> dict[str, models.WeightsEnum]:
    """What torchvision publishes for a model, by name; nothing for one of ours.

    Raises:
        UserError: there is no classifier of this name.
    """
    if model_name in OWN:
        return {}
    names = models.list_models(module=models)
    if model_name not in names:
        raise UserError(
            f"model.name={model_name} is not a classifier of torchvision"
            f"{did_you_mean(model_name.lower(), [*names, *OWN])}: choose one of the {len(names)} that "
            f"torchvision.models.list_models(module=torchvision.models) names, or {' or '.join(OWN)}."
        )
    members = models.get_model_weights(model_name).__members__
    # Weights without categories (vgg16's IMAGENET1K_FEATURES) hold NaN in the classifier.
    return {"DEFAULT": members["DEFAULT"]} | {name: w for name, w in members.items() if w.meta["categories"]}


def state_of(weights: Weights, model_name: str) -> OrderedDict[str, Tensor]:
    """The state dict of weights, downloaded where they are torchvision's and not here yet.

    Raises:
        UserError: They cannot be had or read.
    """
    source = weights.source
    assert not isinstance(source, OfTimm), "timm loads its own"
    return read_state(source) if isinstance(source, Path) else _download(model_name, weights.name, source)


def read_state(path: Path) -> OrderedDict[str, Tensor]:
    """Read the state dict of a network from a file of weights or a checkpoint of our own.

    Raises:
        UserError: the file holds no such thing.
    """
    try:
        if path.suffix == ".safetensors":
            return OrderedDict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        if any(key.startswith(_OF_NETWORK) for key in state):  # a checkpoint of our own
            state = network_state(state)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("a state dict holds tensors only")
    except Exception as error:  # a foreign or corrupt file can fail anywhere inside the readers
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}): it must hold a state dict, written with "
            "torch.save(network.state_dict(), FILE) or by safetensors."
        ) from error
    return state if isinstance(state, OrderedDict) else OrderedDict(state)


def network_state(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The state dict of a network, from that of a checkpoint of ours; tensors of anything else are left out."""
    own = {name: tensor for name, tensor in state.items() if name.startswith(_OF_NETWORK)}
    return OrderedDict((name.removeprefix(_OF_NETWORK), tensor) for name, tensor in own.items())


def checkpoint_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict that a checkpoint of ours has for a network, on the CPU."""
    return {f"{_OF_NETWORK}{name}": tensor.cpu() for name, tensor in network.state_dict().items()}


def transforms_input(weights: Weights | None) -> bool:
    """Whether a googlenet or inception_v3 with these weights takes images into the normalization of TensorFlow.

    Those that torchvision publishes come from there, and so do those of a file that does not say otherwise. Checkpoints
    of ours do; of one from before they did, the record beside it says whether the run began from weights.
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
    except Exception:  # of a file from before torch 1.6, or of none: who reads its weights tells
        return True
    summary = record.Summary.peek(path.parent.parent) if path.parts[-2:] == PurePosixPath(record.BEST).parts else None
    return summary is None or summary.weights is not None


def kept_beside_state(network: nn.Module) -> dict[str, bool]:
    """What a checkpoint of ours holds beside the state dict of a network, because it changes what that computes."""
    return {"transform_input": network.transform_input} if isinstance(network, GoogLeNet | Inception3) else {}


def whole_image(size: int) -> Preprocessing:
    """Of an image without cropping, normalized as ImageNet."""
    return Preprocessing(size, size, "bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _preprocessing(member: models.WeightsEnum) -> Preprocessing:
    preset = member.transforms()
    sizes = (preset.crop_size[0], preset.resize_size[0])
    return Preprocessing(*sizes, preset.interpolation.value, mean=tuple(preset.mean), std=tuple(preset.std))


def _sha256(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        what = f"model.weights={path} cannot be read ({error.strerror}, looked for {path.absolute()})"
        raise UserError(f"{what}: {WHAT_TO_GIVE}.") from error


def _download(model_name: str, name: str, source: models.WeightsEnum) -> OrderedDict[str, Tensor]:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        # torch.hub announces the download on stdout, which belongs to the results of a command.
        with redirect_stdout(sys.stderr):
            state: OrderedDict[str, Tensor] = source.get_state_dict(
                check_hash=True, map_location="cpu", weights_only=True
            )
        return state
    except (OSError, HTTPException, RuntimeError, UnpicklingError, EOFError) as error:
        what = f"the weights {name} of {model_name} cannot be had from {source.url} ({reason(error)})"
        raise UserError(f"{what}: {WHAT_TO_GIVE}.") from error
    finally:
        socket.setdefaulttimeout(timeout)


def reason(error: Exception) -> str:
    """The first line of what an exception says, to stand within a sentence."""
    return str(error).partition("\n")[0].rstrip(".!") or type(error).__name__
