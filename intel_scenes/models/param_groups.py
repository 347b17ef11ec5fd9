"""Which parameters are trained at which rate, and which of them decay."""

from collections.abc import Iterable
from typing import Any

from torch import nn

# Learned offsets of more than one dimension: as little reason to shrink them as a bias.
SPARED = ("class_token", "pos_embedding", "relative_position_bias_table", "layer_scale", "logit_scale")


def parameter_groups(
    network: nn.Module, heads: Iterable[str], *, lr: float, head_lr_scale: float
) -> list[dict[str, Any]]:
    """Parameters by part (backbone, then heads) and by whether weight decay acts on them.

    Decay spares biases, the parameters of norms (both have one dimension) and learned offsets, as in He et al., "Bag of
    Tricks for Image Classification", 2019.

    Args:
        network: A backbone with its heads.
        heads: Qualified names of the head layers.
        lr: Rate of the backbone.
        head_lr_scale: Rate of the heads, relative to `lr`.

    Returns:
        Groups for a torch optimizer, without empty ones; `name` says what a group holds. Groups that are spared set
        `weight_decay` to zero, the others leave it to the optimizer.
    """
    prefixes = tuple(f"{head}." for head in heads)
    groups: dict[str, dict[str, Any]] = {
        f"{part} {kind}": {"params": [], "lr": rate, "name": f"{part} {kind}"}
        | ({"weight_decay": 0.0} if kind == "spared" else {})
        for part, rate in (("backbone", lr), ("head", lr * head_lr_scale))
        for kind in ("decayed", "spared")
    }
    for name, parameter in network.named_parameters():
        part = "head" if name.startswith(prefixes) else "backbone"
        kind = "spared" if parameter.ndim <= 1 or name.endswith(SPARED) else "decayed"
        groups[f"{part} {kind}"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
