"""`python -m tests.models.timm_families`: which families of timm's models train here, one line for each module of timm.

Of each module the smallest models are tried, at 64 px or the least size that they take, from random weights: one step
forward and backward on two images, and the head alone on the features of
the frozen backbone. It takes some minutes on one core.
"""

import re
import sys
from collections.abc import Iterator

import timm
import torch
from torch import nn
from torch.nn import functional

from intel_scenes.config import ModelConfig
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import check_image_size, heads
from intel_scenes.models.libraries import build, preprocessing_of, resolve_weights
from intel_scenes.models.param_groups import parameter_groups

SIZES = (64, 70, 96, 128, 160)
NUM_COUNTED, NUM_TRIED = 10, 3  # models of a family
SMALL = re.compile(r"test_|atto|femto|pico|nano|tiny|xxs|xs|_ti_|_t\d|_s\d*(_|$)|_[bm]0|_0[0-5]0|small|18$")
NUM_CLASSES = 6


def trained(name: str, image_size: int) -> nn.Module:
    """Return a network after one training step, having checked that gradients reach its first layer.

    Raises:
        UserError: The model cannot be built or trained.
    """
    torch.manual_seed(0)
    model = ModelConfig(name, None, "timm")
    network = build(model, NUM_CLASSES, weights=resolve_weights(model), image_size=image_size)
    check_image_size(network, name, image_size)
    groups = parameter_groups(network, heads(network), lr=1e-3, head_lr_scale=1.0, first_lr_scale=0.1)
    ((_, head),) = heads(network).items()
    first, before = next(network.parameters()), head.weight.detach().clone()
    optimizer = torch.optim.SGD(groups)
    loss = functional.cross_entropy(network.train()(torch.randn(2, 3, image_size, image_size)), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert not torch.equal(head.weight, before)
    assert first.grad is not None
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert len(without) < 0.1 * len(list(network.parameters())), f"no gradients: {without[:5]}"
    return network


@torch.no_grad()
def ends_in_its_head(network: nn.Module, image_size: int) -> bool:
    """Return whether the network without its head, followed by the head, computes what the network computes."""
    ((name, head),) = heads(network).items()
    if not isinstance(head, nn.Linear):
        return False
    images = torch.randn(2, 3, image_size, image_size)
    logits = network.eval()(images)
    network.set_submodule(name, nn.Identity())
    features = network(images)
    network.set_submodule(name, head)
    return features.ndim == 2 and torch.allclose(head(features), logits, atol=1e-5)


def smallest(names: list[str]) -> list[str]:
    """Return the models with the fewest parameters, among those with a small name if there are any."""
    sizes = {}
    for name in ([name for name in names if SMALL.search(name)] or names)[:NUM_COUNTED]:
        try:
            with torch.device("meta"):
                sizes[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
        except Exception:  # some read their own values
            sizes[name] = 10**8
    return sorted(sizes, key=sizes.__getitem__)[:NUM_TRIED]


def outcome(names: list[str]) -> tuple[str, bool]:
    """Return the result for a family as a line, and whether a model of it trains."""
    failures = []
    for name in smallest(names):
        try:
            own = preprocessing_of(ModelConfig(name, None, "timm")).crop_size
        except UserError as error:
            failures.append(str(error))
            continue
        for size in [*SIZES, *([own] if own <= 384 and own not in SIZES else [])]:
            try:
                network = trained(name, size)
            except Exception as error:
                failures.append(f"{name} at {size} px: {type(error).__name__} {error}")
                continue
            return f"trains: {name}, {size} px, {'linear' if ends_in_its_head(network, size) else 'other'} head", True
    return " | ".join(dict.fromkeys(failures))[:400] or "no model", False


def single_heads() -> Iterator[str]:
    """Return the names of models that have a single classifier according to timm."""
    for name in timm.list_models():
        try:
            resolve_weights(ModelConfig(name, None, "timm"))
        except UserError:
            continue
        yield name


def main() -> None:
    families = sorted({timm.models.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()})
    num_trained = 0
    for family in families:
        line, is_trained = outcome(timm.list_models(module=family))
        num_trained += is_trained
        print(f"{family:24} {line}", flush=True)
    print(
        f"{num_trained} of {len(families)} families train; {len(list(single_heads())):,} of "
        f"{len(timm.list_models()):,} names have one classifier; timm {timm.__version__}"
    )


if __name__ == "__main__":
    sys.exit(main())
