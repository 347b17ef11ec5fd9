"""The backbone of a configuration, from torchvision, this package, timm or the user's own code."""

from importlib.metadata import version

from torch import nn

from intel_scenes.config import ModelConfig
from intel_scenes.models import backbones, custom, timm_backbones, weights
from intel_scenes.models.own import OWN
from intel_scenes.models.weights import Preprocessing, Weights


def library_of(model: ModelConfig) -> str:
    """Return the library of a backbone, as the record names it."""
    return "intel_scenes" if model.library == "torchvision" and model.name in OWN else model.library


def versions_of(model: ModelConfig) -> dict[str, str]:
    """Return the version of the library where it is not one that every record lists anyway."""
    return {"timm": version("timm")} if model.library == "timm" else {}


def source_digest(model: ModelConfig) -> str | None:
    """Return the digest of the source of a custom backbone; None for all others.

    Raises:
        UserError: The source cannot be found.
    """
    return custom.source_digest(_target(model)) if model.library == "custom" else None


def check_importable(model: ModelConfig) -> None:
    """Import the class of a custom backbone, so that a misspelt name is refused before any image is read.

    Raises:
        UserError: It cannot be imported.
    """
    if model.library == "custom":
        custom.find_callable(_target(model))


def features_key(model: ModelConfig) -> object:
    """Return the part of the cache key of frozen features that identifies the backbone; the weights come beside it."""
    if model.library == "torchvision":
        return model.name
    return [model.library, model.name, dict(model.args), versions_of(model), model._target_, source_digest(model)]


def preprocessing_of(model: ModelConfig) -> Preprocessing:
    """Return the preprocessing of a backbone with its weights; for a custom one the whole image, ImageNet-normalized.

    Raises:
        UserError: The backbone does not exist, or its library is not installed.
    """
    if model.library == "custom":
        return weights.whole_image(custom.IMAGE_SIZE)
    if model.library == "timm":
        return timm_backbones.preprocessing_of(model.name, model.weights)
    return weights.preprocessing_of(model.name, model.weights)


def resolve_weights(model: ModelConfig) -> Weights | None:
    """Resolve `model.weights` without loading or downloading anything; None for random weights.

    Raises:
        UserError: The model, the weights or the file do not exist, or the library is not installed.
    """
    if model.library == "custom":
        return custom.resolve_weights(_target(model), model.weights)
    if model.library == "timm":
        return timm_backbones.resolve_weights(model.name, model.weights)
    return weights.resolve_weights(model.name, model.weights)


def build(
    model: ModelConfig,
    num_classes: int,
    *,
    weights: Weights | None,
    image_size: int,
    transform_input: bool | None = None,
) -> nn.Module:
    """Build a classifier with a head for `num_classes` classes.

    Args:
        model: The backbone; its key `weights` is ignored in favour of the argument.
        num_classes: Number of logits.
        weights: What `resolve_weights` returned for this model, or None for random weights.
        image_size: Side of the images in pixels.
        transform_input: For torchvision's googlenet and inception_v3; see `backbones.build`.

    Raises:
        UserError: The network cannot be built, or the weights do not fit.
    """
    if model.library == "timm":
        return timm_backbones.build(model.name, num_classes, weights=weights, image_size=image_size, args=model.args)
    if model.library == "custom":
        return custom.build(_target(model), num_classes, weights=weights, image_size=image_size, args=model.args)
    return backbones.build(
        model.name, num_classes, weights=weights, image_size=image_size, transform_input=transform_input
    )


def _target(model: ModelConfig) -> str:
    assert model._target_ is not None, "library=custom requires model._target_"
    return model._target_
