import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from timm.optim import param_groups_layer_decay

from intel_scenes.config import ModelConfig
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import check_image_size, heads
from intel_scenes.models.libraries import build, preprocessing_of, resolve_weights
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.param_groups import parameter_groups
from tests.models.hub import served
from tests.models.timm_families import ends_in_its_head, trained

# A small model of each of fifteen families, by the module of timm that has it, and a size that it takes.
FAMILIES = {
    "byobnet": ("test_byobnet", 32),
    "convnext": ("test_convnext", 32),
    "fasternet": ("fasternet_t0", 32),
    "edgenext": ("edgenext_xx_small", 32),
    "efficientnet": ("test_efficientnet", 32),
    "efficientvit_mit": ("efficientvit_b0", 32),
    "mambaout": ("test_mambaout", 32),
    "maxxvit": ("test_maxvit", 64),
    "mobilenetv3": ("mobilenetv3_small_050", 32),
    "mobilevit": ("mobilevit_xxs", 32),
    "nfnet": ("test_nfnet", 32),
    "regnet": ("regnetx_002", 32),
    "resnet": ("test_resnet", 32),
    "vision_transformer": ("test_vit", 32),
    "vision_transformer_relpos": ("test_vit_relpos", 32),
}


def of(name: str, weights: str | None = None, **args: object) -> ModelConfig:
    return ModelConfig(name, weights, "timm", args=args)


def made(name: str, *, image_size: int = 32, weights: str | None = None, num_classes: int = 6) -> torch.nn.Module:
    torch.manual_seed(0)
    model = of(name, weights)
    return build(model, num_classes, weights=resolve_weights(model), image_size=image_size)


def refusal(name: str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        made(name, **options)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_timm_trains_from_random_weights_and_ends_in_its_head(family: str) -> None:
    name, size = FAMILIES[family]
    assert timm.models.model_entrypoint(name).__module__ == f"timm.models.{family}"
    network = trained(name, size)
    assert ends_in_its_head(network, size)


@pytest.mark.parametrize("name", ["test_vit", "tf_efficientnet_lite0", "resnet50.a1_in1k", "vit_small_patch14_dinov2"])
def test_preprocessing_is_that_of_timm(name: str) -> None:
    with torch.device("meta"):
        expected = timm.data.resolve_model_data_config(timm.create_model(name))
    seen = preprocessing_of(of(name, "DEFAULT"))
    assert (seen.mean, seen.std, seen.interpolation) == tuple(expected[key] for key in ("mean", "std", "interpolation"))
    assert (3, seen.crop_size, seen.crop_size) == expected["input_size"]
    (resize, *_) = timm.data.create_transform(**expected).transforms
    assert seen.resize_size == (resize.size[0] if isinstance(resize.size, tuple) else resize.size)
    assert preprocessing_of(of(name)).resize_size == seen.crop_size, "random weights see the whole image"


def test_rates_fall_towards_the_first_layers_as_those_of_timm_do() -> None:
    network = made("test_vit")
    groups = parameter_groups(network, heads(network), lr=1.0, head_lr_scale=1.0, first_lr_scale=0.1)
    num_layers = len({group["lr"] for group in groups})
    theirs = param_groups_layer_decay(network, layer_decay=0.1 ** (1 / (num_layers - 1)))
    scales = {id(parameter): group["lr_scale"] for group in theirs for parameter in group["params"]}
    last = max(scales[id(parameter)] for name, parameter in network.named_parameters() if "head" not in name)
    for group in groups:
        for parameter in group["params"]:
            if not group["name"].startswith("head"):
                assert group["lr"] == pytest.approx(scales[id(parameter)] / last)
    assert num_layers > 3
    assert min(group["lr"] for group in groups) == pytest.approx(0.1)


def test_a_model_without_group_matcher_has_its_modules_as_stages() -> None:
    with torch.device("meta"):
        network = build(of("poolformerv2_s12"), 6, weights=None, image_size=64)
    assert not hasattr(network, "group_matcher")
    groups = parameter_groups(network, heads(network), lr=1.0, head_lr_scale=1.0, first_lr_scale=0.1)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    stem, last = network.get_submodule("stem"), network.get_submodule("stages.3")
    assert {rates[id(parameter)] for parameter in stem.parameters()} == {min(rates.values())}
    assert min(rates.values()) == pytest.approx(0.1)
    assert min(rates[id(parameter)] for parameter in last.parameters()) > 0.3


def test_decay_spares_what_a_model_of_timm_names() -> None:
    network = made("test_vit")
    groups = parameter_groups(network, heads(network), lr=1.0, head_lr_scale=1.0)
    spared = {id(parameter) for group in groups if group.get("weight_decay") == 0 for parameter in group["params"]}
    assert id(network.pos_embed) in spared
    assert network.pos_embed.ndim == 3
    assert id(network.patch_embed.proj.weight) not in spared


@pytest.mark.parametrize("norm", ["BatchNormAct2d", "EvoNorm2dB0"])
def test_batch_norms_of_timm_keep_their_statistics_where_they_are_not_trained(norm: str) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), getattr(timm.layers, norm)(8)).train()
    for norm in batch_norms(network):
        norm.eval()
    before = {key: value.clone() for key, value in network.named_buffers()}
    assert any("running_var" in key for key in before)
    network(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[key]) for key, value in network.named_buffers())
    for norm in batch_norms(network):
        norm.train()
    network(torch.randn(2, 3, 32, 32))
    assert not all(torch.equal(value, before[key]) for key, value in network.named_buffers())


def test_a_model_takes_the_size_of_the_images_where_it_is_built_for_one() -> None:
    assert made("test_vit", image_size=96).patch_embed.img_size == (96, 96)
    assert made("test_vit", image_size=96)(torch.zeros(1, 3, 96, 96)).shape == (1, 6)
    said = r"vit_tiny_patch16_224 cannot train on images of 64 x 64 .*set data\.image_size=224 \(its"
    with torch.device("meta"):
        network = made("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=said):
        check_image_size(network, "vit_tiny_patch16_224", 64)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        *(("vit_small_patch14_dinov2", 384), ("vit_base_patch32_clip_224.openai", 768)),
        ("vit_base_patch16_siglip_224", 768),
    ],
)
def test_the_image_encoders_of_dino_clip_and_siglip_have_a_head_for_our_classes(name: str, features: int) -> None:
    with torch.device("meta"):
        network = build(of(name), 6, weights=None, image_size=56)
        assert network(torch.zeros(2, 3, 56, 56)).shape == (2, 6)
    ((_, head),) = heads(network).items()
    assert (head.in_features, head.out_features) == (features, 6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "deit_tiny_distilled_patch16_224",
            "the head of timm's deit_tiny_distilled_patch16_224 cannot be replaced (it has 2 classifiers): choose "
            "another model",
        ),
        (
            "crossvit_9_240",
            "the head of timm's crossvit_9_240 cannot be replaced (it has 2 classifiers): choose another model",
        ),
        ("test_vitt", "model.name=test_vitt is not a model of timm (did you mean test_vit"),
        (
            "test_vit.in1k",
            "model.name=test_vit.in1k is not a model of timm (did you mean r160_in1k?): choose a tag of "
            "test_vit: r160_in1k",
        ),
        ("resnet18.a1_in21", "model.name=resnet18.a1_in21 is not a model of timm (did you mean a1_in1k"),
    ],
)
def test_models_that_timm_lacks_or_that_have_two_heads_are_one_sentence(name: str, said: str) -> None:
    assert refusal(name).startswith(said)


def test_other_weights_of_a_model_are_its_tags() -> None:
    assert resolve_weights(of("resnet18", "fb_swsl_ig1b_ft_in1k")).digest == "timm/resnet18.fb_swsl_ig1b_ft_in1k"
    assert resolve_weights(of("resnet18.a2_in1k", "DEFAULT")).name == "resnet18.a2_in1k"
    with pytest.raises(UserError, match=r"model\.weights=a9_in1k is neither a file nor a tag .*did you mean .*a1_in1k"):
        resolve_weights(of("resnet18", "a9_in1k"))
    with pytest.raises(UserError, match=r"=DEFAULT is not a file, and efficientnet_b6 has no published weights"):
        resolve_weights(of("efficientnet_b6", "DEFAULT"))


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("resnet18") == 'model.library=timm needs timm: pip install "intel-scenes[timm]"'


def test_further_arguments_reach_timm_and_others_are_refused() -> None:
    rates = [build(of("test_vit", drop_rate=rate), 6, weights=None, image_size=32).head_drop.p for rate in (0.0, 0.5)]
    assert rates == [0.0, 0.5]
    with pytest.raises(UserError, match=r"^test_resnet does not accept model\.args\.depthh \("):
        build(of("test_resnet", depthh=3), 6, weights=None, image_size=32)
    for name in ("num_classes", "pretrained_cfg_overlay", "checkpoint_path"):
        with pytest.raises(UserError, match=f"model.args.{name} is set by the run itself: leave it out"):
            of("test_vit", **{name: "x"})


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_in_timms_layout_is_loaded_without_a_head_for_other_classes(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = timm.create_model("test_resnet").state_dict()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(theirs, path)
    else:
        safetensors.torch.save_file(theirs, path)
    ours = made("test_resnet", weights=str(path)).state_dict()
    assert {name: value.shape for name, value in ours.items() if name.startswith("fc")} == {
        "fc.weight": (6, 96),
        "fc.bias": (6,),
    }
    assert all(torch.equal(ours[name], value) for name, value in theirs.items() if not name.startswith("fc"))
    whole = made("test_resnet", weights=str(path), num_classes=1000).state_dict()
    assert all(torch.equal(whole[name], value) for name, value in theirs.items())


def test_position_embeddings_are_resized_as_timm_does(tmp_path: Path) -> None:
    theirs = timm.create_model("test_vit", img_size=64)
    torch.nn.init.normal_(theirs.pos_embed)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = made("test_vit", weights=str(tmp_path / "weights.pth"), image_size=96)
    expected = timm.layers.resample_abs_pos_embed(
        theirs.pos_embed.detach(),
        new_size=[6, 6],
        num_prefix_tokens=theirs.num_prefix_tokens,
    )
    assert expected.shape == ours.pos_embed.shape != theirs.pos_embed.shape
    torch.testing.assert_close(ours.pos_embed.detach(), expected)


def test_an_encoder_without_a_head_takes_the_new_one(tmp_path: Path) -> None:
    theirs = timm.create_model("test_vit", num_classes=0, img_size=32).state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = made("test_vit", weights=str(tmp_path / "weights.pth")).state_dict()
    assert ours.keys() - theirs.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("test_efficientnet", "(RuntimeError: Error(s) in loading"),
        ("test_convnext", "(KeyError: "),  # where timm's own conversion fails
    ],
)
def test_a_file_of_another_model_is_refused(name: str, why: str, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    said = refusal(name, weights=str(tmp_path / "other.pth"))
    assert said.startswith(f"other.pth does not fit timm's {name} {why}")
    assert said.endswith(f"set model.weights to a file of {name} weights, or to null for random weights")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Direct downloads to an address and into a folder of the test."""
    from huggingface_hub import constants

    def at(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    return at


def test_published_weights_are_downloaded_once(hub) -> None:
    theirs = timm.create_model("test_resnet").state_dict()
    with served("model.safetensors", safetensors.torch.save(theirs)) as (address, requests):
        hub(address)
        ours = made("test_resnet", weights="DEFAULT").state_dict()
        assert "GET /timm/test_resnet.r160_in1k/resolve/main/model.safetensors" in requests
    assert all(torch.equal(ours[name], value) for name, value in theirs.items() if not name.startswith("fc"))
    again = made("test_resnet", weights="r160_in1k").state_dict()  # the server is gone
    assert all(torch.equal(again[name], value) for name, value in theirs.items() if not name.startswith("fc"))


def test_a_download_that_breaks_off_is_refused(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenOff(Exception):  # as those of the hub's client, no OSError
        pass

    def download(*_: object, **__: object) -> str:
        raise BrokenOff("peer closed connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with served("model.safetensors", b"") as (address, _):
        hub(address)
        assert "cannot be downloaded" in (said := refusal("test_vit", weights="DEFAULT"))
    assert "(peer closed connection)" in said


def test_without_a_network_a_download_is_refused_at_once(hub) -> None:
    with served("other", b"") as (address, requests):
        hub(address)
        assert refusal("test_vit", weights="DEFAULT") == (
            "the weights test_vit.r160_in1k cannot be downloaded from timm/test_vit.r160_in1k (the repository has no "
            "file model.safetensors or pytorch_model.bin): set model.weights to a file, or to null for random weights"
        )
    requests.clear()
    said = refusal("test_vit", weights="DEFAULT")  # the server is gone
    assert said.startswith("the weights test_vit.r160_in1k cannot be downloaded from timm/test_vit.r160_in1k ([Errno")
