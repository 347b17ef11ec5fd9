"""Which parameters are trained at which rate, and which of them decay."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from intel_scenes.models.timm_backbones import layers

# Learned offsets of more than one dimension: as little reason to shrink them as a bias.
SPARED = ("class_token", "pos_embedding", "relative_position_bias_table", "layer_scale", "logit_scale")


def parameter_groups(
    network: nn.Module, heads: Iterable[str], *, lr: float, head_lr_scale: float, first_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Parameters by part (backbone, then heads) and by whether weight decay acts on them.

    Decay spares biases, the parameters of norms (both have one dimension), learned offsets, and what the network itself
    names in `no_weight_decay()`, as those of timm do; see He et al., "Bag of Tricks for Image Classification", 2019.
    Rates that fall towards the first layers are those of Howard and Ruder, "Universal Language Model Fine-tuning",
    2018, stated by their two ends: one number then means the same for a network of five stages as for one of twenty.
    The stages are the layers that a network itself tells apart (`group_matcher` of timm's models), else its modules in
    their order.

    Args:
        network: A backbone with its heads.
        heads: Qualified names of the head layers, and of auxiliary classifiers.
        lr: Rate of the backbone.
        head_lr_scale: Rate of the heads, relative to `lr`.
        first_lr_scale: Rate of the first layers, relative to `lr`, that of the last; geometric between them.

    Returns:
        Groups for a torch optimizer, without empty ones, the last layers of the backbone first; `name` says what a
        group holds. Groups that are spared set `weight_decay` to zero, the others leave it to the optimizer.
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
        kind = "spared" if parameter.ndim <= 1 or any(fnmatchcase(name, one) for one in spared) else "decayed"
        part = "head" if name.startswith(prefixes) else f"backbone {stage_of[name]}" if stage_of else "backbone"
        groups[f"{part} {kind}"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _stage_of_each(network: nn.Module, head_prefixes: tuple[str, ...]) -> dict[str, str]:
    """The stage of each parameter of the backbone, by their names; in the order of the stages, the first ones first."""
    names = [name for name, _ in network.named_parameters() if not name.startswith(head_prefixes)]
    if numbers := layers(network):
        return {name: f"layer {numbers[name]}" for name in sorted(names, key=numbers.__getitem__)}
    stages = _stages(network, head_prefixes)
    # What belongs to no stage (a class token, embeddings of positions) is read by the first layers.
    found = {
        name: next((stage for stage in reversed(stages) if name.startswith(f"{stage}.")), stages[0]) for name in names
    }
    return {name: found[name] for name in sorted(names, key=lambda name: stages.index(found[name]))}


def _stages(network: nn.Module, head_prefixes: tuple[str, ...]) -> list[str]:
    """Qualified names of the backbone's parts with parameters, from its input to its output.

    They are the network's own children; of a child that holds more than half of the parameters, its children.
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
