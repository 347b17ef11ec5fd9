"""Any torchvision classifier by name, and the small ResNets of our own: weights, head, the image sizes they take."""

import hashlib
import logging
import re
import socket
import sys
from collections import OrderedDict
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import chain
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.models.resnet9 import ResNet9

DOWNLOAD_TIMEOUT_SECONDS = 20.0

_FILE_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")
_HEAD_PARENTS = ("fc", "classifier", "head", "heads", "AuxLogits", "aux1", "aux2")
# torchvision.models.densenet renames these keys of its published files in the same way.
_OLD_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_WHAT_TO_GIVE = "give a file with model.weights=FILE, or model.weights=null for random weights"

log = logging.getLogger(__name__)

# Networks that torchvision does not have; nobody publishes weights of theirs. Features are kept by the name, so
# one that comes to compute something else gets another.
OWN = {"resnet9": partial(ResNet9, width=64), "resnet9_x0_5": partial(ResNet9, width=32)}
_OWN_CROP_SIZE = 64

_SIZES_THAT_FIT: set[tuple[str, int]] = set()
_BUILT_FOR_ONE_SIZE = ("vit_", "maxvit_")


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants to see an image: resized, cropped at the centre, scaled to 0..1, normalized per channel."""

    crop_size: int
    resize_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Weights:
    """Weights that exist but are not loaded: `source` is a file, or a member of a torchvision weights enumeration."""

    name: str
    digest: str
    source: Path | models.WeightsEnum


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
    published = _weights_of(model_name)
    if not published:
        return _whole_image(_OWN_CROP_SIZE)
    seen = _preprocessing(published.get(weights or "DEFAULT", published["DEFAULT"]))
    return _whole_image(seen.crop_size) if weights is None else seen


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
    published = _weights_of(model_name)
    if weights is None:
        return None
    if weights in published:
        member = published[weights]
        return Weights(member.name, PurePosixPath(urlparse(member.url).path).name, member)
    path = Path(weights).expanduser()
    if path.suffix in _FILE_SUFFIXES or path.exists():
        return Weights(path.name, _sha256(path), path)
    if not published:
        raise UserError(
            f"nobody publishes weights of {model_name}, so model.weights={weights} is none: {_WHAT_TO_GIVE}."
        )
    raise UserError(
        f"model.weights={weights} is neither a file nor weights of {model_name}"
        f"{did_you_mean(weights.upper(), published)}: choose {', '.join(published)}, null (random weights) or a .pth, "
        f".pt, .ckpt or .safetensors file."
    )


def build(model_name: str, num_classes: int, *, weights: Weights | None, image_size: int) -> nn.Module:
    """Build a classifier for our classes.

    Weights for another number of classes are loaded without their heads, which stay random. The network maps images
    `(B, 3, image_size, image_size)` to logits `(B, num_classes)`; googlenet and inception_v3 keep their auxiliary
    heads and return named tuples of logits in training mode.

    Args:
        model_name: a classifier of torchvision, such as `resnet50`, or one of ours.
        num_classes: number of logits.
        weights: what `resolve_weights` returned for this model.
        image_size: side of the images in pixels; position embeddings are interpolated to it.

    Raises:
        UserError: no such model, an impossible image size, or weights that cannot be had, read or fitted.
    """
    _weights_of(model_name)
    options = _options(model_name, weights, image_size)
    try:
        builder = OWN.get(model_name) or partial(models.get_model, model_name, weights=None)
        network: nn.Module = builder(num_classes=num_classes, **options)
    except (AssertionError, ValueError) as error:
        raise _size_error(model_name, image_size, error) from error
    if weights is not None:
        source = weights.source
        state = read_state(source) if isinstance(source, Path) else _download(model_name, weights.name, source)
        _load(network, model_name, state, source)
    return network


def heads(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that produce class logits, auxiliary ones included, by their qualified names.

    They are linear layers, or a 1 x 1 convolution in the SqueezeNets.
    """
    found: dict[str, nn.Module] = {}
    for parent in _HEAD_PARENTS:
        if hasattr(network, parent):
            layers = getattr(network, parent).named_modules(prefix=parent)
            name, layer = [pair for pair in layers if isinstance(pair[1], nn.Linear | nn.Conv2d)][-1]
            found[name] = layer
    return found


def check_image_size(network: nn.Module, model_name: str, image_size: int) -> None:
    """Check without computing that the network can train on a batch of shape `(2, 3, image_size, image_size)`.

    The network, its buffers and the modes of its modules stay as they were. Once for each name and size in a process,
    which the runs of a sweep mostly share, but for networks that are built for one size.

    Raises:
        UserError: it cannot.
    """
    if (model_name, image_size) in _SIZES_THAT_FIT:
        return
    state = chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.detach().to("meta") for name, tensor in state}
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            functional_call(network.train(), on_meta, torch.empty(2, 3, image_size, image_size, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _size_error(model_name, image_size, error) from error
    finally:
        for module, mode in modes:
            module.training = mode
    if not model_name.startswith(_BUILT_FOR_ONE_SIZE):
        _SIZES_THAT_FIT.add((model_name, image_size))


def _weights_of(model_name: str) -> dict[str, models.WeightsEnum]:
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


def _whole_image(size: int) -> Preprocessing:
    return Preprocessing(size, size, "bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _preprocessing(member: models.WeightsEnum) -> Preprocessing:
    preset = member.transforms()
    sizes = (preset.crop_size[0], preset.resize_size[0])
    return Preprocessing(*sizes, preset.interpolation.value, mean=tuple(preset.mean), std=tuple(preset.std))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        what = f"model.weights={path} cannot be read ({error.strerror}, looked for {path.absolute()})"
        raise UserError(f"{what}: {_WHAT_TO_GIVE}.") from error


def _options(model_name: str, weights: Weights | None, image_size: int) -> dict[str, Any]:
    if model_name in ("googlenet", "inception_v3"):
        # The published weights come from TensorFlow and want another normalization, which transform_input applies.
        return {"aux_logits": True, "init_weights": weights is None, "transform_input": weights is not None}
    if model_name.startswith("vit_"):
        return {"image_size": image_size}
    if model_name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def _size_error(model_name: str, image_size: int, error: Exception) -> UserError:
    size = preprocessing_of(model_name, None).crop_size
    return UserError(
        f"{model_name} cannot train on images of {image_size} x {image_size} pixels ({_reason(error)}): "
        f"set data.image_size={size}, which it was made for, and recipe.train_size where it is given."
    )


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".!") or type(error).__name__


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
        what = f"the weights {name} of {model_name} cannot be had from {source.url} ({_reason(error)})"
        raise UserError(f"{what}: {_WHAT_TO_GIVE}.") from error
    finally:
        socket.setdefaulttimeout(timeout)


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
        if any(key.startswith("network.") for key in state):  # a checkpoint of our own
            for key in [key for key in state if not key.startswith("network.")]:
                del state[key]
            consume_prefix_in_state_dict_if_present(state, "network.")
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("a state dict holds tensors only")
    except Exception as error:  # a foreign or corrupt file can fail anywhere inside the readers
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}): it must hold a state dict, written with "
            "torch.save(network.state_dict(), FILE) or by safetensors."
        ) from error
    return state if isinstance(state, OrderedDict) else OrderedDict(state)


def _load(network: nn.Module, model_name: str, state: OrderedDict[str, Tensor], source: object) -> None:
    _modernize(network, state)
    left_out = _leave_out_other_heads(network, state)
    misfits = [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(tensor.shape)} in the model"
        for key, tensor in network.state_dict().items()
        if key in state and state[key].shape != tensor.shape
    ]
    if not misfits:
        keys = network.load_state_dict(state, strict=False)
        misfits = [f"{key} is not in the file" for key in keys.missing_keys if key not in left_out]
        misfits += [f"{key} is not in the model" for key in keys.unexpected_keys]
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise UserError(
            f"{source} does not fit {model_name} ({'; '.join(misfits[:3])}{more}): "
            f"give the weights of a {model_name} with model.weights=FILE, or model.weights=null for random weights."
        )
    if left_out:
        log.info("%s: loaded without the head, which is new", source)


def _modernize(network: nn.Module, state: OrderedDict[str, Tensor]) -> None:
    if isinstance(network, models.DenseNet):
        for key in [key for key in state if _OLD_DENSENET_KEY.match(key)]:
            state[_OLD_DENSENET_KEY.sub(r"\1\2", key)] = state.pop(key)
    if isinstance(network, models.MNASNet) and not hasattr(state, "_metadata"):
        # It refuses a state dict without its version, and safetensors files have none.
        state._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    if isinstance(network, models.VisionTransformer):
        # What cannot be interpolated does not fit, and is named with its shapes.
        with suppress(KeyError, RuntimeError, ValueError):
            interpolate_embeddings(network.image_size, network.patch_size, state)


def _leave_out_other_heads(network: nn.Module, state: OrderedDict[str, Tensor]) -> set[str]:
    parameters = {f"{name}.{p}": value for name, head in heads(network).items() for p, value in head.named_parameters()}
    in_both = [(state[key].shape, value.shape) for key, value in parameters.items() if key in state]
    if not any(theirs[:1] != ours[:1] and theirs[1:] == ours[1:] for theirs, ours in in_both):
        return set()
    for key in parameters:
        state.pop(key, None)
    return set(parameters)
