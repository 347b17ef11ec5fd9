"""Which parameters are trained at which rate, and which of them decay."""

from collections.abc import Iterable
from typing import Any

from torch import nn

# Learned offsets of more than one dimension: as little reason to shrink them as a bias.
SPARED = ("class_token", "pos_embedding", "relative_position_bias_table", "layer_scale", "logit_scale")


def parameter_groups(
    network: nn.Module, heads: Iterable[str], *, lr: float, head_lr_scale: float, first_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Parameters by part (backbone, then heads) and by whether weight decay acts on them.

    Decay spares biases, the parameters of norms (both have one dimension) and learned offsets, as in He et al., "Bag of
    Tricks for Image Classification", 2019. Rates that fall towards the first layers are those of Howard and Ruder,
    "Universal Language Model Fine-tuning", 2018, stated by their two ends: one number then means the same for a network
    of five stages as for one of twenty.

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
    stages = [] if first_lr_scale == 1 else list(reversed(_stages(network, prefixes)))
    rates = {
        f"backbone {stage}": lr * first_lr_scale ** (depth / (len(stages) - 1)) for depth, stage in enumerate(stages)
    }
    rates = (rates or {"backbone": lr}) | {"head": lr * head_lr_scale}
    groups: dict[str, dict[str, Any]] = {
        f"{part} {kind}": {"params": [], "lr": rate, "name": f"{part} {kind}"}
        | ({"weight_decay": 0.0} if kind == "spared" else {})
        for part, rate in rates.items()
        for kind in ("decayed", "spared")
    }
    for name, parameter in network.named_parameters():
        kind = "spared" if parameter.ndim <= 1 or name.endswith(SPARED) else "decayed"
        groups[f"{_part(name, prefixes, stages)} {kind}"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _part(name: str, head_prefixes: tuple[str, ...], stages: list[str]) -> str:
    if name.startswith(head_prefixes):
        return "head"
    if not stages:
        return "backbone"
    # What belongs to no stage (a class token, embeddings of positions) is read by the first layers.
    return f"backbone {next((stage for stage in stages if name.startswith(f'{stage}.')), stages[-1])}"


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
