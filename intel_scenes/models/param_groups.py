"""Parameter groups: the learning rate of each part of a network, and which parameters have weight decay."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from intel_scenes.models.timm_backbones import layers

# Learned offsets of more than one dimension; like biases, they are not decayed.
SPARED = ("class_token", "pos_embedding", "relative_position_bias_table", "layer_scale", "logit_scale")


def parameter_groups(
    network: nn.Module, heads: Iterable[str], *, lr: float, head_lr_scale: float, first_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Group parameters by part (backbone, then heads) and by whether they have weight decay.

    Biases, parameters of normalization layers (both have one dimension), learned offsets, and what the network names in
    `no_weight_decay()` (timm's models do) are not decayed; see He et al., "Bag of Tricks for Image Classification",
    2019. Layer-wise learning rates that fall towards the first layers follow Howard and Ruder, "Universal Language
    Model Fine-tuning", 2018, but are given by the rates of the first and the last layers, so that one number means the
    same for a network of five stages as for one of twenty. The stages are the layers that the network itself defines
    (`group_matcher` of timm's models), else its modules in their order.

    Args:
        network: A backbone with its heads.
        heads: Qualified names of the head layers, and of auxiliary classifiers.
        lr: Learning rate of the last layers of the backbone.
        head_lr_scale: Learning rate of the heads, relative to `lr`.
        first_lr_scale: Learning rate of the first layers, relative to `lr`; geometric in between.

    Returns:
        Non-empty groups for a torch optimizer, the last layers of the backbone first. `name` says what a group holds;
        groups whose name ends in "spared" have `weight_decay=0`, the others use that of the optimizer.
    """
    prefixes = tuple(f"{head}." for head in heads)
    stage_of = {} if first_lr_scale == 1 else _stage_of_each(network, prefixes)
    stages = list(reversed(dict.fromkeys(stage_of.values())))
    spared = (*getattr(network, "no_weight_decay", tuple)(), *(f"*{name}" for name in SPARED))
    rates = {
        f"backbone {stage}": lr * first_lr_scale ** (depth / max(1, len(stages) - 1))
        for depth, stage in enumerate(stages)
    }
    rates = (rates or {"backbone": lr}) | {"head": lr * head_lr_scale}
    groups: dict[str, dict[str, Any]] = {
        f"{part} {kind}": {"params": [], "lr": rate, "name": f"{part} {kind}"}
        | ({"weight_decay": 0.0} if kind == "spared" else {})
        for part, rate in rates.items()
        for kind in ("decayed", "spared")
    }
    for name, parameter in network.named_parameters():
        kind = "spared" if parameter.ndim <= 1 or any(fnmatchcase(name, pattern) for pattern in spared) else "decayed"
        part = "head" if name.startswith(prefixes) else f"backbone {stage_of[name]}" if stage_of else "backbone"
        groups[f"{part} {kind}"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _stage_of_each(network: nn.Module, head_prefixes: tuple[str, ...]) -> dict[str, str]:
    """Return the stage of each backbone parameter by name, in the order of the stages, the first stage first."""
    names = [name for name, _ in network.named_parameters() if not name.startswith(head_prefixes)]
    if numbers := layers(network):
        return {name: f"layer {numbers[name]}" for name in sorted(names, key=numbers.__getitem__)}
    stages = _stages(network, head_prefixes)
    # Parameters outside of all stages (class token, position embeddings) feed the first layers.
    stage_of = {
        name: next((stage for stage in reversed(stages) if name.startswith(f"{stage}.")), stages[0]) for name in names
    }
    return {name: stage_of[name] for name in sorted(names, key=lambda name: stages.index(stage_of[name]))}


def _stages(network: nn.Module, head_prefixes: tuple[str, ...]) -> list[str]:
    """Return the qualified names of the backbone's parts with parameters, from input to output.

    They are the children of the network; a child with more than half of the parameters is replaced by its children.
    """
    sizes = {
        name: sum(
            parameter.numel()
            for own, parameter in module.named_parameters(prefix=name)
            if not own.startswith(head_prefixes)
        )
        for name, module in network.named_modules()
    }

    def parts(prefix: str, module: nn.Module) -> list[str]:
        names = [(f"{prefix}{name}", child) for name, child in module.named_children()]
        return [
            part
            for name, child in names
            if sizes[name]
            for part in (parts(f"{name}.", child) if 2 * sizes[name] > sizes[""] and list(child.children()) else [name])
        ]

    return parts("", network)
