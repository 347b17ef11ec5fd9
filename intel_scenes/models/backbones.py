"""Build any torchvision classifier, or a small network of this package, by name; load weights; find its heads."""

import logging
import re
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from intel_scenes.errors import UserError
from intel_scenes.models.own import OWN
from intel_scenes.models.weights import Weights, preprocessing_of, published_weights, reason, state_of, transforms_input

_AUXILIARY = ("AuxLogits", "aux1", "aux2")
_HEAD_PARENTS = ("fc", "classifier", "head", "heads", *_AUXILIARY)
# torchvision.models.densenet renames these keys of its published files in the same way.
_OLD_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")

log = logging.getLogger(__name__)

_SIZES_THAT_FIT: set[tuple[str, int, int]] = set()
_LOADED_HEADLESS: set[str] = set()  # sources of weights for which a log message said that their head was left out
_BUILT_FOR_ONE_SIZE = ("vit_", "maxvit_")
_HEAD_NAMES = "names_of_heads"  # attribute that marks a network as not torchvision's


def build(
    model_name: str, num_classes: int, *, weights: Weights | None, image_size: int, transform_input: bool | None = None
) -> nn.Module:
    """Build a classifier with a head for `num_classes` classes.

    Weights for another number of classes are loaded without their heads, which stay random. The network maps images
    `(B, 3, image_size, image_size)` to logits `(B, num_classes)`; googlenet and inception_v3 keep their auxiliary
    heads and return named tuples of logits in training mode.

    Args:
        model_name: A classifier of torchvision, such as `resnet50`, or of this package.
        num_classes: Number of logits.
        weights: What `resolve_weights` returned for this model.
        image_size: Side of the images in pixels; position embeddings are interpolated to it.
        transform_input: For googlenet and inception_v3 whose weights are loaded later; None derives it from `weights`.

    Raises:
        UserError: The model does not exist, the image size is impossible, or the weights cannot be downloaded, cannot
            be read or do not fit.
    """
    published_weights(model_name)
    options = _options(model_name, weights, image_size, transform_input)
    try:
        builder = OWN.get(model_name) or partial(models.get_model, model_name, weights=None)
        network: nn.Module = builder(num_classes=num_classes, **options)
    except (AssertionError, ValueError) as error:
        size = preprocessing_of(model_name, None).crop_size
        raise size_error(model_name, image_size, error, size) from error
    if isinstance(network, models.MNASNet):
        network.__class__ = _MNASNet
    if weights is not None:
        load(network, model_name, state_of(weights, model_name), weights.source)
    return network


def mark_heads(network: nn.Module, *names: str) -> None:
    """Record which layers of a network that is not torchvision's are its heads."""
    setattr(network, _HEAD_NAMES, names)


def heads(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that produce class logits, auxiliary ones included, by their qualified names.

    A head is a linear layer, or a 1 x 1 convolution in SqueezeNet.
    """
    names: tuple[str, ...] | None = getattr(network, _HEAD_NAMES, None)
    if names is not None:
        return {name: network.get_submodule(name) for name in names}
    layer_by_name: dict[str, nn.Module] = {}
    for parent in _HEAD_PARENTS:
        if hasattr(network, parent):
            layers = getattr(network, parent).named_modules(prefix=parent)
            name, layer = [pair for pair in layers if isinstance(pair[1], nn.Linear | nn.Conv2d)][-1]
            layer_by_name[name] = layer
    return layer_by_name


def classifiers(network: nn.Module) -> list[str]:
    """Return the qualified names of all that is not backbone: the heads, and whole auxiliary classifiers."""
    return [parent if (parent := name.partition(".")[0]) in _AUXILIARY else name for name in heads(network)]


def check_image_size(network: nn.Module, model_name: str, image_size: int, batch_size: int = 2) -> None:
    """Check without computing that the network can train on batches of shape `(B, 3, image_size, image_size)`.

    The network, its buffers and the modes of its modules do not change. A passed check is remembered by model name and
    image size for the rest of the process, because the runs of a sweep mostly share them; networks that are built for
    one size are checked every time.

    Args:
        network: Network to train.
        model_name: Its name, for the message.
        image_size: Side of the images in pixels.
        batch_size: B; with a single image BatchNorm may have nothing to average over, so that case is checked too.

    Raises:
        UserError: The network cannot train on such batches.
    """
    for num_images in (2, 1) if batch_size == 1 else (2,):
        _check_batch(network, model_name, image_size, num_images)


def _check_batch(network: nn.Module, model_name: str, image_size: int, num_images: int) -> None:
    is_torchvisions = not hasattr(network, _HEAD_NAMES)
    if is_torchvisions and (model_name, image_size, num_images) in _SIZES_THAT_FIT:
        return
    try:
        if is_torchvisions:
            _try_training(network, num_images, image_size, "meta")
        else:
            _check_logits(_try_somewhere(network, num_images, image_size), num_images, model_name)
    except UserError:
        raise
    except Exception as error:  # a custom network can raise anything
        if num_images == 1:  # batches of two fit
            raise UserError(
                f"{model_name} cannot train on one image of {image_size} x {image_size} pixels per step and device "
                f"({reason(error)}): set data.batch_size to at least two per device"
            ) from error
        raise size_error(model_name, image_size, error, _native_size(network, model_name)) from error
    if is_torchvisions and not model_name.startswith(_BUILT_FOR_ONE_SIZE):
        _SIZES_THAT_FIT.add((model_name, image_size, num_images))


def _try_somewhere(network: nn.Module, num_images: int, image_size: int) -> object:
    """Return the output in training mode; computed on the CPU for networks that read tensor values, as some of timm."""
    try:
        return _try_training(network, num_images, image_size, "meta")
    except Exception:  # an error with another cause is raised again by the CPU
        with torch.random.fork_rng(devices=[]):
            return _try_training(network, num_images, image_size, "cpu")


def _check_logits(logits: object, num_images: int, model_name: str) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != num_images:
        output = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{model_name} returns {output} for {num_images} images in training mode, but must return one row of "
            "logits per image: choose another model, or change its forward()"
        )


def _try_training(network: nn.Module, num_images: int, image_size: int, device: str) -> object:
    state = chain(network.named_parameters(), network.named_buffers())
    copies = {name: tensor.detach().to(device, copy=True) for name, tensor in state}
    modes = [(module, module.training) for module in network.modules()]
    images = torch.zeros(num_images, 3, image_size, image_size, device=device)
    try:
        with torch.no_grad():
            # tie_weights would leave copies behind in a module that is registered under several names (timm's CoaT).
            return functional_call(network.train(), copies, images, tie_weights=False)
    finally:
        for module, mode in modes:
            module.training = mode


class _MNASNet(models.MNASNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's MNASNet, which would refuse a state dict without version metadata (checkpoints, safetensors)."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict[str, Any],
        *others: Any,  # noqa: ANN401
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, {"version": 2} | local_metadata, *others)


def _options(model_name: str, weights: Weights | None, image_size: int, transform_input: bool | None) -> dict[str, Any]:
    if model_name in ("googlenet", "inception_v3"):
        transforms = transforms_input(weights) if transform_input is None else transform_input
        return {"aux_logits": True, "init_weights": weights is None, "transform_input": transforms}
    if model_name.startswith("vit_"):
        return {"image_size": image_size}
    if model_name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def size_error(model_name: str, image_size: int, error: Exception, native_size: int | None) -> UserError:
    """Return the error of a network that cannot process images of a size, with its native size where that is known."""
    size = "another data.image_size" if native_size is None else f"data.image_size={native_size} (its native size)"
    return UserError(
        f"{model_name} cannot train on images of {image_size} x {image_size} pixels ({reason(error)}): "
        f"set {size}, and recipe.train_size where it is used"
    )


def _native_size(network: nn.Module, model_name: str) -> int | None:
    if not hasattr(network, _HEAD_NAMES):
        return preprocessing_of(model_name, None).crop_size
    timm_config: Any = getattr(network, "pretrained_cfg", None)
    return int(timm_config["input_size"][-1]) if timm_config else None


def load(network: nn.Module, model_name: str, state: OrderedDict[str, Tensor], source: object) -> None:
    """Load a state dict, without its heads where they are for another number of classes.

    Raises:
        UserError: The state dict does not fit the network.
    """
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
            f"set model.weights to a file of {model_name} weights, or to null for random weights"
        )
    # Once in a process: each run of a sweep loads the same weights. An estimate of its cost logs nothing.
    if left_out and log.isEnabledFor(logging.INFO) and str(source) not in _LOADED_HEADLESS:
        _LOADED_HEADLESS.add(str(source))
        log.info("%s: loaded without its head (other number of classes); the new head starts at random", source)


def _modernize(network: nn.Module, state: OrderedDict[str, Tensor]) -> None:
    if isinstance(network, models.DenseNet):
        for key in [key for key in state if _OLD_DENSENET_KEY.match(key)]:
            state[_OLD_DENSENET_KEY.sub(r"\1\2", key)] = state.pop(key)
    if isinstance(network, models.VisionTransformer):
        # Embeddings that cannot be interpolated are reported below as a mismatch of shapes.
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
