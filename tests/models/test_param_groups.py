from functools import cache

import pytest
import torch
from torch import nn

from intel_scenes.models.backbones import build, classifiers
from intel_scenes.models.param_groups import parameter_groups

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
OFFSETS = {"class_token", "pos_embedding", "relative_position_bias_table", "layer_scale"}
SIZES = {
    **{"resnet18": 64, "vit_b_16": 224, "swin_t": 224, "convnext_tiny": 224, "maxvit_t": 224},
    **{"inception_v3": 299, "googlenet": 224, "squeezenet1_1": 64},
}


@cache
def on_meta(model_name: str) -> nn.Module:
    with torch.device("meta"):
        return build(model_name, 6, weights=None, image_size=SIZES[model_name])


def names_by_group(network: nn.Module, head_names: list[str]) -> dict[str, list[str]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, head_names, lr=0.1, head_lr_scale=10.0)
    return {group["name"]: [names[id(parameter)] for parameter in group["params"]] for group in groups}


@pytest.mark.parametrize("model_name", SIZES)
def test_every_parameter_is_in_one_group_and_no_group_is_empty(model_name: str) -> None:
    network = on_meta(model_name)
    groups = names_by_group(network, classifiers(network))
    assert all(groups.values())
    grouped = [name for names in groups.values() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in network.named_parameters())


@pytest.mark.parametrize("model_name", SIZES)
def test_decay_spares_biases_norms_and_learned_offsets_and_nothing_else(model_name: str) -> None:
    network = on_meta(model_name)
    expected = {
        f"{path}.{name}".lstrip(".")
        for path, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name.endswith("bias") or name in OFFSETS
    }
    groups = names_by_group(network, classifiers(network))
    spared = {name for group, names in groups.items() for name in names if group.endswith("spared")}
    assert spared == expected


@pytest.mark.parametrize(
    ("model_name", "head"),
    [
        ("resnet18", {"fc"}),
        ("vit_b_16", {"heads.head"}),
        ("inception_v3", {"fc", "AuxLogits.conv0.conv", "AuxLogits.conv1.conv", "AuxLogits.fc"}),
        ("googlenet", {"fc", *(f"aux{number}.{layer}" for number in (1, 2) for layer in ("conv.conv", "fc1", "fc2"))}),
    ],
)
def test_heads_and_whole_auxiliary_classifiers_are_apart_and_the_backbone_comes_first(
    model_name: str, head: set[str]
) -> None:
    network = on_meta(model_name)
    groups = names_by_group(network, classifiers(network))
    assert list(groups) == ["backbone decayed", "backbone spared", "head decayed", "head spared"]
    assert set(groups["head decayed"]) == {f"{name}.weight" for name in head}
    norms = {f"{name[:-4]}bn.{kind}" for name in head if name.endswith("conv") for kind in ("weight", "bias")}
    assert set(groups["head spared"]) == norms | {f"{name}.bias" for name in head if not name.endswith("conv")}


def test_a_layer_whose_name_begins_like_the_heads_is_no_head() -> None:
    network = nn.ModuleDict({"fc": nn.Linear(1, 1), "fc2": nn.Linear(1, 1)})
    groups = names_by_group(network, ["fc"])
    assert groups["head decayed"] == ["fc.weight"]
    assert groups["backbone decayed"] == ["fc2.weight"]


def test_parts_without_parameters_have_no_group() -> None:
    network = nn.ModuleDict({"norm": nn.BatchNorm2d(2), "fc": nn.Linear(1, 1, bias=False)})
    assert list(names_by_group(network, ["fc"])) == ["backbone spared", "head decayed"]


def test_a_step_with_zero_gradients_shrinks_decayed_weights_at_the_rate_of_their_part() -> None:
    network = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "norm": nn.BatchNorm2d(1), "fc": nn.Linear(1, 1)})
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    groups = parameter_groups(network, ["fc"], lr=0.5, head_lr_scale=2.0)
    torch.optim.SGD(groups, weight_decay=0.1).step()
    found = {name: round(parameter.item(), 6) for name, parameter in network.named_parameters()}
    # w - rate * decay * w: 1 - 0.5 * 0.1 in the backbone, 1 - 1.0 * 0.1 in the head
    spared = dict.fromkeys(("conv.bias", "norm.weight", "norm.bias", "fc.bias"), 1.0)
    assert found == {"conv.weight": 0.95, "fc.weight": 0.9, **spared}


def rates(model_name: str, first_lr_scale: float) -> dict[str, float]:
    network = on_meta(model_name)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, classifiers(network), lr=0.1, head_lr_scale=10.0, first_lr_scale=first_lr_scale)
    assert groups[0]["lr"] == pytest.approx(0.1), "the first group is what the history shows"
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


@pytest.mark.parametrize("model_name", SIZES)
def test_rates_rise_from_the_first_layers_to_the_last_for_all_parameters(model_name: str) -> None:
    found, network = rates(model_name, 0.01), on_meta(model_name)
    assert sorted(found) == sorted(name for name, _ in network.named_parameters())
    head = tuple(f"{name}." for name in classifiers(network))
    backbone = [rate for name, rate in found.items() if not name.startswith(head)]
    assert min(backbone) == pytest.approx(0.001)
    assert max(backbone) == pytest.approx(0.1)
    assert {rate for name, rate in found.items() if name.startswith(head)} == {1.0}


def test_the_parts_of_a_resnet_and_of_a_transformer_have_rates_in_equal_ratios() -> None:
    resnet = rates("resnet18", 0.01)
    # Of layer4, which holds more than half of the parameters, each block counts: seven parts.
    parts = ["conv1", "bn1", "layer1.1.conv2", "layer2.0.conv1", "layer3.1.bn2", "layer4.0.conv1", "layer4.1.bn2"]
    assert [resnet[f"{part}.weight"] for part in parts] == pytest.approx([0.1 * 0.01 ** (1 - k / 6) for k in range(7)])
    transformer = rates("vit_b_16", 0.01)
    layers = [transformer[f"encoder.layers.encoder_layer_{number}.mlp.0.weight"] for number in range(12)]
    assert [one / other for one, other in zip(layers[1:], layers, strict=False)] == pytest.approx(
        [layers[1] / layers[0]] * 11
    )
    assert transformer["class_token"] == transformer["conv_proj.weight"] == pytest.approx(0.001)


@pytest.mark.parametrize(("model_name", "last"), [("googlenet", "inception5b"), ("inception_v3", "Mixed_7c")])
def test_auxiliary_classifiers_are_no_layers_of_the_backbone(model_name: str, last: str) -> None:
    groups = parameter_groups(
        on_meta(model_name), classifiers(on_meta(model_name)), lr=0.1, head_lr_scale=10.0, first_lr_scale=0.01
    )
    assert groups[0]["name"] == f"backbone {last} decayed"
    auxiliary = {rate for name, rate in rates(model_name, 0.01).items() if name.lower().startswith("aux")}
    assert auxiliary == {1.0}
