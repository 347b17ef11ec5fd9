import hashlib
import pickle
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest
import safetensors.torch
import torch
import yaml
from torch import nn
from torchvision import models
from torchvision.models.regnet import BlockParams

from intel_scenes.errors import UserError
from intel_scenes.models import backbones
from intel_scenes.models.backbones import (
    OWN,
    Preprocessing,
    build,
    check_image_size,
    heads,
    preprocessing_of,
    resolve_weights,
)

CLASSIFIERS = models.list_models(module=models)
MODEL_FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
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
    """Torchvision's own network for 1000 classes, its statistics moved away from their initial values."""
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


@pytest.mark.parametrize("model_name", CLASSIFIERS)
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


def test_there_are_eighty_classifiers() -> None:
    assert len(CLASSIFIERS) >= 80


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


def test_no_weights_are_no_weights() -> None:
    assert resolve_weights("resnet50", None) is None


def test_default_weights_are_the_member_that_torchvision_means_by_it() -> None:
    weights = resolve_weights("resnet50", "DEFAULT")
    assert weights is not None
    assert weights.name == "IMAGENET1K_V2"
    assert weights.digest == "resnet50-11ad3fa6.pth"
    assert weights.source is models.ResNet50_Weights.IMAGENET1K_V2


def test_preprocessing_is_that_of_the_chosen_weights() -> None:
    imagenet_mean, imagenet_std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    v1 = preprocessing_of("efficientnet_b1", "IMAGENET1K_V1")
    large = preprocessing_of("efficientnet_v2_l", "DEFAULT")
    assert v1 == Preprocessing(240, 256, "bicubic", imagenet_mean, imagenet_std)
    assert large == Preprocessing(480, 480, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    random = Preprocessing(299, 299, "bilinear", imagenet_mean, imagenet_std)
    assert preprocessing_of("inception_v3", None) == random


def test_a_file_is_known_by_its_content_and_prepared_as_the_default_weights(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"content")
    weights = resolve_weights("resnet50", str(path))
    assert weights is not None
    assert weights.name == "mine.pth"
    assert weights.digest == hashlib.sha256(b"content").hexdigest()
    seen = preprocessing_of("resnet50", str(path))
    assert (seen.crop_size, seen.resize_size) == (224, 232)


def test_a_misspelt_model_is_refused_with_its_neighbours() -> None:
    with pytest.raises(UserError, match=r"model\.name=resnet51 .*did you mean .*resnet50.*choose one of"):
        resolve_weights("resnet51", None)
    with pytest.raises(UserError, match=r"did you mean .*resnet18"):
        build("ResNet18", 6, weights=None, image_size=64)


def test_misspelt_weights_are_refused_with_their_neighbours_and_all_choices() -> None:
    with pytest.raises(UserError) as caught:
        resolve_weights("resnet50", "imagenet1k_v3")
    assert str(caught.value) == (
        "model.weights=imagenet1k_v3 is neither a file nor weights of resnet50 (did you mean IMAGENET1K_V2 or "
        "IMAGENET1K_V1?): choose DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2, null (random weights) or a .pth, .pt, "
        ".ckpt or .safetensors file."
    )


def test_weights_without_a_classifier_are_no_choice() -> None:
    with pytest.raises(UserError, match="choose DEFAULT, IMAGENET1K_V1, null"):
        resolve_weights("vgg16", "IMAGENET1K_FEATURES")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"model\.weights=absent\.pth cannot be read \(No such file.*/absent\.pth\): give"
    ):
        resolve_weights("resnet18", "absent.pth")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        resolve_weights("resnet18", str(tmp_path))


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


def test_old_names_of_densenet_are_understood(tmp_path: Path) -> None:
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
    assert sentence.endswith(
        "give the weights of a resnet18 with model.weights=FILE, or model.weights=null for random weights."
    )


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    state = imagenet("resnet18").state_dict()
    state["extra"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"\(conv1\.weight is not in the file; extra is not in the model\)"):
        from_file("resnet18", tmp_path / "weights.pth")


@pytest.mark.parametrize("content", ["noise", "empty", "network", "list", "numbers"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    objects = {"network": nn.Linear(1, 1), "list": [1], "numbers": {"a": 1}}
    if content in objects:
        torch.save(objects[content], path)
    else:
        path.write_bytes(b"no weights " * 9 if content == "noise" else b"")
    with pytest.raises(UserError, match=r"weights\S+ cannot be read as weights \(\w+\): it must hold a state dict"):
        from_file("resnet18", path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(UserError, match="cannot be read as weights"):
        from_file("resnet18", tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()


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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address that it is served at; downloads are kept below `tmp_path`."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with HTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path / "served", f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.value, "url", url)


def download() -> nn.Module:
    weights = resolve_weights("mobilenet_v3_small", "DEFAULT")
    return build("mobilenet_v3_small", 1000, weights=weights, image_size=64).eval()


def test_published_weights_are_downloaded_checked_and_kept(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, address = server
    theirs = imagenet("mobilenet_v3_small")
    torch.save(theirs.state_dict(), folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    (folder / "weights").rename(folder / f"small-{digest[:8]}.pth")
    publish(monkeypatch, f"{address}/small-{digest[:8]}.pth")
    with torch.no_grad():
        assert torch.equal(download()(images(64)), theirs(images(64)))
    assert (tmp_path / "torch" / "hub" / "checkpoints" / f"small-{digest[:8]}.pth").exists()
    assert socket.getdefaulttimeout() is None


def test_a_download_with_another_hash_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = server
    (folder / "small-01234567.pth").write_bytes(b"something else")
    publish(monkeypatch, f"{address}/small-01234567.pth")
    with pytest.raises(UserError, match=r"cannot be had from .* \(invalid hash value .*\): give a file with model"):
        download()


def test_a_missing_page_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, f"{server[1]}/absent-01234567.pth")
    with pytest.raises(UserError, match=r"cannot be had from .*/absent-01234567\.pth \(HTTP Error 404"):
        download()


@pytest.mark.usefixtures("server")
def test_without_a_network_the_sentence_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/small-01234567.pth"
        publish(monkeypatch, url)
        start = time.monotonic()
        with pytest.raises(UserError) as caught:
            download()
    assert time.monotonic() - start < 5
    assert str(caught.value) == (
        f"the weights IMAGENET1K_V1 of mobilenet_v3_small cannot be had from {url} (<urlopen error [Errno 111] "
        "Connection refused>): give a file with model.weights=FILE, or model.weights=null for random weights."
    )


@pytest.mark.usefixtures("server")
def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/small-01234567.pth")
        with pytest.raises(UserError, match="timed out"):
            download()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.stem)
def test_every_model_file_names_a_classifier_and_its_weights(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# ")
    assert list(content) == ["name", "weights"]
    if path.stem != "torchvision":
        assert content["name"].startswith(path.stem)
        weights = resolve_weights(content["name"], content["weights"])
        assert (weights is None) == (content["name"] in OWN), "torchvision publishes weights of all its classifiers"


def test_whether_a_size_fits_a_network_of_another_size_is_not_remembered() -> None:
    with torch.device("meta"):
        fits, other = (models.vit_b_16(image_size=size) for size in (32, 64))
    check_image_size(fits, "vit_b_16", 32)
    with pytest.raises(UserError, match=r"^vit_b_16 cannot train on images of 32 x 32 .+ and recipe\.train_size where"):
        check_image_size(other, "vit_b_16", 32)
