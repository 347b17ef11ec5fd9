"""Any classifier of timm by name: its network, weights, preprocessing and the order of its layers.

timm is an optional dependency: it is imported inside functions, only when one of its models is chosen.
"""

import math
import socket
from collections import OrderedDict
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from torch import Tensor, nn

from intel_scenes.errors import UserError, did_you_mean, first_line
from intel_scenes.models.backbones import load, mark_heads, size_error
from intel_scenes.models.weights import (
    ALTERNATIVES,
    DOWNLOAD_TIMEOUT_SECONDS,
    OfTimm,
    Preprocessing,
    Weights,
    read_state,
    reason,
    weights_of_file,
)

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in a repository of timm, in timm's order of preference


def preprocessing_of(model_name: str, weights: str | None) -> Preprocessing:
    """Return the preprocessing of a network with these weights, as timm's `resolve_model_data_config` defines it.

    Args:
        model_name: A model of timm, such as `resnet50` or `resnet50.a1_in1k`.
        weights: As in `resolve_weights`; a file is assumed to need the preprocessing of the model's default weights.

    Returns:
        The preprocessing. A square resize stands in for the crop modes `squash` and `border` of a few of timm's models.
        With random weights the whole image is used, because no earlier training cropped it.

    Raises:
        UserError: timm is not installed, or has no such classifier.
    """
    published = published_weights(model_name)
    member = published.get(weights or "DEFAULT", published.get("DEFAULT"))
    config = _timm().models.get_pretrained_cfg(member.name if member else model_name).to_dict()
    data_config = _timm().data.resolve_data_config(pretrained_cfg=config)
    size = data_config["input_size"][-1]
    return Preprocessing(
        crop_size=size,
        resize_size=size if weights is None else math.floor(size / data_config["crop_pct"]),  # as timm.data
        # All published weights use one of these two; `lanczos` and `random` are for training, and close to bicubic.
        interpolation="bilinear" if data_config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(data_config["mean"]),
        std=tuple(data_config["std"]),
    )


def resolve_weights(model_name: str, weights: str | None) -> Weights | None:
    """Resolve a name of weights without loading or downloading them.

    Args:
        model_name: A model of timm, such as `resnet50` or `resnet50.a1_in1k`.
        weights: `DEFAULT`, another of timm's tags for this model, a file, or None for random weights.

    Returns:
        The weights. Their digest is the SHA-256 of a file, or the place where timm publishes them: the repository on
        the Hugging Face hub (with its revision where timm pins one), or a file name that holds the beginning of its
        SHA-256.

    Raises:
        UserError: timm is not installed, or the model, the weights or the file do not exist.
    """
    published = published_weights(model_name)
    if weights in published:
        source = published[weights]
        config = _timm().models.get_pretrained_cfg(source.name)
        return Weights(source.name, config.hf_hub_id or PurePosixPath(urlparse(config.url).path).name, source)
    near = did_you_mean(weights or "", published)
    return weights_of_file(model_name, weights, f"a tag of timm's weights of {model_name}{near}", published)


def published_weights(model_name: str) -> dict[str, OfTimm]:
    """Return the weights that timm publishes for a model by tag; DEFAULT are those of the name's tag, or timm's best.

    Raises:
        UserError: timm is not installed, or has no classifier of this name with a single head.
    """
    models = _timm().models
    architecture, _, tag = model_name.partition(".")
    if not models.is_model(architecture):
        names = models.list_models()
        raise UserError(
            f"model.name={model_name} is not a model of timm{did_you_mean(architecture.lower(), names)}: choose one of "
            f"the {len(names):,} names that timm.list_models() returns"
        )
    names = models.list_models(f"{architecture}.*", pretrained=True)
    tags = [name.partition(".")[2] for name in names]
    if tag and tag not in tags:
        raise UserError(
            f"model.name={model_name} is not a model of timm{did_you_mean(tag, tags)}: "
            f"{f'choose a tag of {architecture}: ' + ', '.join(tags) if tags else f'leave out .{tag}'}"
        )
    config = models.get_pretrained_cfg(model_name)
    if isinstance(config.classifier, tuple | list) and len(config.classifier) > 1:
        raise _no_single_head(model_name, f"it has {len(config.classifier)} classifiers")
    by_tag = {tag: OfTimm(name) for tag, name in zip(tags, names, strict=True)}
    default = {"DEFAULT": by_tag[config.tag]} if config.has_weights and config.tag in by_tag else {}
    return default | by_tag


def build(
    model_name: str, num_classes: int, *, weights: Weights | None, image_size: int, args: Mapping[str, Any]
) -> nn.Module:
    """Build a classifier of timm that maps images `(B, 3, H, W)` to logits `(B, num_classes)`.

    Weights for another number of classes are loaded without their head, which stays random; timm resizes position
    embeddings.

    Args:
        model_name: A model of timm, such as `resnet50` or `resnet50.a1_in1k`.
        num_classes: Number of logits.
        weights: What `resolve_weights` returned for this model.
        image_size: Side of the images in pixels, for models that are built for a size.
        args: Further arguments of `timm.create_model`, such as `drop_path_rate`.

    Raises:
        UserError: The model does not exist or has no single head, the image size or an argument is impossible, or the
            weights cannot be downloaded, cannot be read or do not fit.
    """
    published_weights(model_name)
    network = _create(model_name, num_classes, image_size, args)
    head = _head(network, model_name, num_classes)
    mark_heads(network, head)
    # As in `reset_classifier`: some models scale the initial head by the number of classes, far too large for a few.
    layer: Any = network.get_submodule(head)
    layer.reset_parameters()
    if weights is not None:
        state = _converted(model_name, weights, image_size, args)
        # Weights without any head, such as the encoders of DINOv2 and SigLIP, take the new one.
        new_head = {name: value for name, value in network.state_dict().items() if name.startswith(f"{head}.")}
        load(network, model_name, OrderedDict(new_head | state), weights.source)
    return network


def layers(network: Any) -> dict[str, int] | None:  # noqa: ANN401  # of timm, or not
    """Return the layer number of each parameter, from the input, by timm's `group_matcher`; None for other networks."""
    if not hasattr(network, "group_matcher"):
        return None
    from timm.models import group_parameters

    number_of: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return number_of


def _timm() -> Any:  # noqa: ANN401  # a library without complete types
    try:
        import timm
    except ImportError as error:
        raise UserError('model.library=timm needs timm: pip install "intel-scenes[timm]"') from error
    return timm


def _create(model_name: str, num_classes: int, image_size: int, args: Mapping[str, Any], **others: object) -> nn.Module:
    create = _timm().create_model
    try:
        try:
            network: nn.Module = create(model_name, num_classes=num_classes, img_size=image_size, **args, **others)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            network = create(model_name, num_classes=num_classes, **args, **others)
    except (KeyError, TypeError) as error:
        if others:  # an error of the weights, which the caller reports
            raise
        keys = ", ".join(f"model.args.{name}" for name in args)
        raise UserError(
            f"{model_name} does not accept {keys or 'the arguments of timm.create_model'} ({reason(error)}): "
            f"{'remove or correct the key' if keys else 'choose another model'}"
        ) from error
    except (AssertionError, ArithmeticError, IndexError, RuntimeError, ValueError) as error:
        if others:
            raise
        size = preprocessing_of(model_name, None).crop_size
        raise size_error(model_name, image_size, error, size) from error
    return network


def _head(network: Any, model_name: str, num_classes: int) -> str:  # noqa: ANN401  # of timm
    """Return the qualified name of the layer whose output is the logits.

    Raises:
        UserError: There is no such layer, or there are several.
    """
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else None
    if isinstance(classifier, nn.ModuleList | tuple | list):
        raise _no_single_head(model_name, f"it has {len(classifier)} classifiers")
    names = [name for name, module in network.named_modules() if module is classifier]
    layers_with_width = [
        (name, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
        for prefix in names[:1]
        for name, layer in network.get_submodule(prefix).named_modules(prefix=prefix)
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    if not layers_with_width or layers_with_width[-1][1] != num_classes:
        raise _no_single_head(model_name, "no single layer computes the logits")
    return str(layers_with_width[-1][0])


def _no_single_head(model_name: str, why: str) -> UserError:
    return UserError(f"the head of timm's {model_name} cannot be replaced ({why}): choose another model")


def _converted(model_name: str, weights: Weights, image_size: int, args: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    """Return the state dict of weights in the layout of timm's model at this image size, with its original classes.

    timm converts it: it knows the layouts in which weights were published, and resizes position embeddings. The number
    of classes is kept because timm checks the names strictly only then.
    """
    config = _timm().models.get_pretrained_cfg(model_name)
    if isinstance(weights.source, OfTimm):
        config = _timm().models.get_pretrained_cfg(weights.source.name)
        state, candidates, offset = read_state(_download(config)), [config.num_classes], config.label_offset
    else:
        assert isinstance(weights.source, Path)
        state, offset = read_state(weights.source), 0
        rows = [len(state[key]) for key in (f"{config.classifier}.weight",) if key in state]
        candidates = rows or [0, config.num_classes]
    failure: Exception | None = None
    for num_classes in dict.fromkeys(candidates):
        overlay = {"state_dict": state, "num_classes": num_classes, "label_offset": offset, "custom_load": False}
        try:
            network = _create(
                model_name, num_classes, image_size, args, pretrained=True, pretrained_cfg_overlay=overlay
            )
            return OrderedDict(network.state_dict())
        except Exception as error:  # the functions that convert foreign layouts can raise anything
            failure = failure or error
    assert failure is not None
    raise UserError(
        f"{weights.name} does not fit timm's {model_name} ({' '.join(first_line(failure).split())}): "
        f"set model.weights to a file of {model_name} weights, or to null for random weights"
    ) from failure


def _download(config: Any) -> Path:  # noqa: ANN401  # of timm
    """Return the file of published weights, downloaded unless it is in the cache."""
    where = config.hf_hub_id or config.url
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        return _from_hub(config) if config.hf_hub_id else Path(_timm().models.download_cached_file(config.url))
    except (OSError, HTTPException, RuntimeError) as error:
        raise UserError(
            f"the weights {config.architecture}.{config.tag} cannot be downloaded from {where} ({reason(error)}): "
            f"{ALTERNATIVES}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _from_hub(config: Any) -> Path:  # noqa: ANN401  # of timm
    """Return a file of the Hugging Face hub, from its cache where possible."""
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, pinned = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    for name in names:
        if isinstance(path := hub.try_to_load_from_cache(repository, name, revision=pinned or None), str):
            return Path(path)
    for name in names:
        url = hub.hf_hub_url(repository, name, revision=pinned or None)
        try:
            # One quick request first: the download itself retries an unreachable server for more than a minute.
            hub.get_hf_file_metadata(url, timeout=DOWNLOAD_TIMEOUT_SECONDS)
            return Path(hub.hf_hub_download(repository, name, revision=pinned or None))
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client has used requests and httpx, with different exceptions
            raise OSError(reason(error)) from error
    raise OSError(f"the repository has no file {' or '.join(names)}")
