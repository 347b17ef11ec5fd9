import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models
from torchvision.models.regnet import BlockParams

from intel_scenes import keys
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import build, check_image_size, heads
from intel_scenes.models.weights import resolve_weights

CLASSIFIERS = models.list_models(module=models)
FILES = {path.stem for path in keys.files("model")}
OTHER_KINDS = {"densenet121", "googlenet", "inception_v3", "squeezenet1_1", "vgg11"}  # of heads, inputs and parts
AUXILIARY = {"googlenet": {"fc", "aux1.fc2", "aux2.fc2"}, "inception_v3": {"fc", "AuxLogits.fc"}}
QUIET = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads wait for each other at every tiny layer when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def own_size(model_name: str) -> int:
    return models.get_model_weights(model_name).DEFAULT.transforms().crop_size[0]


def on_meta(monkeypatch: pytest.MonkeyPatch, model_name: str) -> nn.Module:
    from_init_params = BlockParams.from_init_params

    def on_cpu(**options: object) -> BlockParams:  # RegNets read tensor values while they compute their widths
        with torch.device("cpu"):
            return from_init_params(**options)

    monkeypatch.setattr(BlockParams, "from_init_params", on_cpu)
    with torch.device("meta"):
        return build(model_name, 6, weights=None, image_size=own_size(model_name))


def imagenet(model_name: str, seed: int = 0, **options: object) -> nn.Module:
    """Return torchvision's network for 1000 classes with running statistics that are not the initial ones."""
    torch.manual_seed(seed)
    network = models.get_model(model_name, weights=None, **QUIET.get(model_name, {}), **options).eval()
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return network


def images(size: int) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def from_file(model_name: str, path: Path, num_classes: int = 6, image_size: int = 64) -> nn.Module:
    weights = resolve_weights(model_name, str(path))
    return build(model_name, num_classes, weights=weights, image_size=image_size).eval()


@pytest.mark.parametrize(
    "model_name",
    [pytest.param(name, marks=() if name in FILES | OTHER_KINDS else pytest.mark.slow) for name in CLASSIFIERS],
)
def test_every_classifier_of_torchvision_gives_six_logits_and_can_train_at_its_own_size(
    monkeypatch: pytest.MonkeyPatch, model_name: str
) -> None:
    size = own_size(model_name)
    network = on_meta(monkeypatch, model_name).eval()
    with torch.no_grad():
        assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 6)
    found = heads(network)
    assert [(getattr(head, "out_features", None) or head.out_channels) for head in found.values()] == [6] * len(found)
    assert len(found) == len(AUXILIARY.get(model_name, {"head"}))
    check_image_size(network, model_name, size)
    nested = nn.ModuleDict({"network": network})
    nested.load_state_dict(dict(nested.state_dict()))  # as a checkpoint holds it: without torch's own notes


@pytest.mark.parametrize(
    ("model_name", "expected"),
    [
        ("resnet18", {"fc"}),
        ("regnet_y_400mf", {"fc"}),
        ("shufflenet_v2_x0_5", {"fc"}),
        ("densenet121", {"classifier"}),
        ("vgg11", {"classifier.6"}),
        ("alexnet", {"classifier.6"}),
        ("mobilenet_v3_small", {"classifier.3"}),
        ("squeezenet1_0", {"classifier.1"}),
        ("convnext_tiny", {"classifier.2"}),
        ("maxvit_t", {"classifier.5"}),
        ("swin_t", {"head"}),
        ("vit_b_16", {"heads.head"}),
        *AUXILIARY.items(),
    ],
)
def test_heads_are_the_last_layers_of_each_family(
    monkeypatch: pytest.MonkeyPatch, model_name: str, expected: set[str]
) -> None:
    network = on_meta(monkeypatch, model_name)
    found = heads(network)
    assert set(found) == expected
    assert all(network.get_submodule(name) is head for name, head in found.items())


def test_a_misspelt_model_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"model\.name=resnet51 .*did you mean .*resnet50.*choose one of"):
        resolve_weights("resnet51", None)
    with pytest.raises(UserError, match=r"did you mean .*resnet18"):
        build("ResNet18", 6, weights=None, image_size=64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("model_name", ["resnet18", "mobilenet_v3_small", "mnasnet1_3", "squeezenet1_1"])
def test_weights_for_other_classes_give_the_same_features_and_a_new_head(
    tmp_path: Path, model_name: str, suffix: str
) -> None:
    theirs = imagenet(model_name)
    path = tmp_path / f"weights{suffix}"
    save = torch.save if suffix == ".pth" else safetensors.torch.save_file
    save(theirs.state_dict(), path)
    ours = from_file(model_name, path)
    ((name, head),) = heads(ours).items()
    inputs: dict[str, torch.Tensor] = {}
    for key, network in (("theirs", theirs), ("ours", ours)):
        network.get_submodule(name).register_forward_hook(lambda _, x, __, key=key: inputs.update({key: x[0]}))
    with torch.no_grad():
        assert ours(images(64)).shape == (2, 6)
        theirs(images(64))
    assert torch.equal(inputs["ours"], inputs["theirs"])
    assert head.weight.shape[0] == 6


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
def test_weights_for_the_same_classes_load_with_their_head(tmp_path: Path, suffix: str) -> None:
    theirs = imagenet("resnet18", num_classes=6)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".ckpt":  # as Lightning saves a module that holds the network
        module = nn.ModuleDict({"network": theirs, "loss": nn.Linear(1, 1)})
        torch.save({"state_dict": module.state_dict(), "epoch": 3}, path)
    else:
        (torch.save if suffix == ".pth" else safetensors.torch.save_file)(theirs.state_dict(), path)
    with torch.no_grad():
        assert torch.equal(from_file("resnet18", path)(images(64)), theirs(images(64)))


def test_a_file_that_is_loaded_without_its_head_is_told_once_and_not_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    for path in (one, other):
        torch.save(imagenet("mobilenet_v2", num_classes=3).state_dict(), path)
    logging.disable(logging.INFO)  # as while the cost of a sweep is estimated
    from_file("mobilenet_v2", one)
    logging.disable(logging.NOTSET)
    for path in (one, one, other, one):
        from_file("mobilenet_v2", path)
    assert [line.partition(": loaded without its head")[0] for line in caplog.messages] == [str(one), str(other)]


@pytest.mark.parametrize("model_name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_replaced_with_the_main_one_and_the_input_is_transformed(
    tmp_path: Path, model_name: str
) -> None:
    theirs = imagenet(model_name, aux_logits=True, transform_input=True)
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    same = from_file(model_name, path, num_classes=1000, image_size=96)
    with torch.no_grad():
        assert torch.equal(same(images(96)), theirs(images(96)))
    state = from_file(model_name, path, image_size=96).state_dict()
    others = {key for key, value in theirs.state_dict().items() if not torch.equal(state[key], value)}
    assert others == {f"{name}.{kind}" for name in AUXILIARY[model_name] for kind in ("weight", "bias")}


def test_old_parameter_names_of_densenet_are_converted(tmp_path: Path) -> None:
    theirs = imagenet("densenet121")
    state = {}
    for key, value in theirs.state_dict().items():  # `norm1` was `norm.1` in the published file
        parts = key.split(".")
        parts = [f"{p[:-1]}.{p[-1]}" if "denselayer" in key and p[:4] in ("norm", "conv") else p for p in parts]
        state[".".join(parts)] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "old.pth")
    with torch.no_grad():
        ours = from_file("densenet121", tmp_path / "old.pth", num_classes=1000)
        assert torch.equal(ours(images(64)), theirs(images(64)))


def test_position_embeddings_are_interpolated_to_the_image_size(tmp_path: Path) -> None:
    state = imagenet("vit_b_32", image_size=64).state_dict()  # 2 x 2 patches
    corners = torch.tensor([0.0, 2.0, 4.0, 6.0])
    state["encoder.pos_embedding"][0, 0] = 9.0
    state["encoder.pos_embedding"][0, 1:] = corners[:, None]
    torch.save(state, tmp_path / "weights.pth")
    same = from_file("vit_b_32", tmp_path / "weights.pth", image_size=64).state_dict()["encoder.pos_embedding"]
    assert torch.equal(same, state["encoder.pos_embedding"])
    larger = from_file("vit_b_32", tmp_path / "weights.pth", image_size=96).state_dict()["encoder.pos_embedding"]
    assert larger.shape == (1, 1 + 3 * 3, 768)
    first = larger[0, :, 0]
    assert first[0] == 9.0
    # Aligned corners stay where they are; by symmetry the centre is their mean.
    torch.testing.assert_close(first[[1, 3, 7, 9, 5]], torch.tensor([0.0, 2.0, 4.0, 6.0, 3.0]))


def test_weights_of_another_model_are_refused_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(imagenet("resnet50").state_dict(), path)
    with pytest.raises(UserError) as caught:
        from_file("resnet18", path)
    sentence = str(caught.value)
    assert sentence.startswith(
        f"{path} does not fit resnet18 (layer1.0.conv1.weight is (64, 64, 1, 1) in the file and "
    )
    assert "(64, 64, 3, 3) in the model" in sentence
    assert sentence.endswith("set model.weights to a file of resnet18 weights, or to null for random weights")


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    state = imagenet("resnet18").state_dict()
    state["extra"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"\(conv1\.weight is not in the file; extra is not in the model\)"):
        from_file("resnet18", tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("model_name", "size"),
    [("alexnet", 32), ("vgg11", 16), ("squeezenet1_1", 16), ("inception_v3", 224), ("resnet18", 0)],
)
def test_a_size_that_the_network_cannot_train_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, model_name: str, size: int
) -> None:
    network = on_meta(monkeypatch, model_name)
    with pytest.raises(UserError, match=rf"{model_name} cannot train on images of {size} x {size} pixels \(.+\): set"):
        check_image_size(network, model_name, size)


@pytest.mark.parametrize(
    ("model_name", "size"), [("alexnet", 63), ("alexnet", 64), ("resnet18", 8), ("squeezenet1_1", 16), ("vgg11_bn", 32)]
)
def test_the_check_of_sizes_agrees_with_a_real_training_step(model_name: str, size: int) -> None:
    network = build(model_name, 6, weights=None, image_size=size)
    try:
        check_image_size(network, model_name, size)
        allowed = True
    except UserError:
        allowed = False
    try:
        network.train()(images(size))
        possible = True
    except (RuntimeError, ValueError):
        possible = False
    assert allowed == possible


@pytest.mark.parametrize(("model_name", "size"), [("vit_b_16", 225), ("maxvit_t", 200)])
def test_an_impossible_size_is_refused_at_construction(model_name: str, size: int) -> None:
    with pytest.raises(UserError, match=rf"{model_name} cannot train on images of {size} x {size} .*image_size=224"):
        build(model_name, 6, weights=None, image_size=size)


def test_the_check_of_sizes_leaves_the_network_and_the_random_state_alone() -> None:
    network = build("mobilenet_v3_small", 6, weights=None, image_size=64)
    network.features.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    check_image_size(network, "mobilenet_v3_small", 64)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_whether_a_size_fits_a_network_of_another_size_is_not_remembered() -> None:
    with torch.device("meta"):
        fits, other = (models.vit_b_16(image_size=size) for size in (32, 64))
    check_image_size(fits, "vit_b_16", 32)
    with pytest.raises(UserError, match=r"^vit_b_16 cannot train on images of 32 x 32 .+ and recipe\.train_size where"):
        check_image_size(other, "vit_b_16", 32)
