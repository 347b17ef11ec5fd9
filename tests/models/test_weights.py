import hashlib
import pickle
import re
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest
import torch
import yaml
from torch import nn
from torchvision import models

from intel_scenes.errors import UserError
from intel_scenes.models import weights as weights_module
from intel_scenes.models.own import OWN
from intel_scenes.models.weights import Preprocessing, preprocessing_of, read_state, resolve_weights, state_of

MODEL_FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
OF_TORCHVISION = [
    path for path in MODEL_FILES if not re.search(r"^library:|^defaults:", path.read_text(), re.MULTILINE)
]


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


def test_a_file_is_identified_by_its_content_and_preprocessed_as_the_default_weights(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"content")
    weights = resolve_weights("resnet50", str(path))
    assert weights is not None
    assert weights.name == "mine.pth"
    assert weights.digest == hashlib.sha256(b"content").hexdigest()
    seen = preprocessing_of("resnet50", str(path))
    assert (seen.crop_size, seen.resize_size) == (224, 232)


def test_misspelt_weights_are_refused_with_the_nearest_names_and_all_choices() -> None:
    with pytest.raises(UserError) as caught:
        resolve_weights("resnet50", "imagenet1k_v3")
    assert str(caught.value) == (
        "model.weights=imagenet1k_v3 is neither a file nor weights of resnet50 (did you mean IMAGENET1K_V2 or "
        "IMAGENET1K_V1?): choose DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2, null (random weights) or a .pth, .pt, "
        ".ckpt or .safetensors file"
    )


def test_weights_without_a_classifier_are_no_choice() -> None:
    with pytest.raises(UserError, match="choose DEFAULT, IMAGENET1K_V1, null"):
        resolve_weights("vgg16", "IMAGENET1K_FEATURES")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"model\.weights=absent\.pth cannot be read \(No such file.*/absent\.pth\): set"
    ):
        resolve_weights("resnet18", "absent.pth")
    with pytest.raises(UserError, match="is neither a file nor weights of resnet18"):
        resolve_weights("resnet18", str(tmp_path))


@pytest.mark.parametrize("path", OF_TORCHVISION, ids=lambda path: path.stem)
def test_every_model_file_names_a_classifier_and_its_weights(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# ")
    assert list(content) == ["name", "weights"]
    if path.stem != "torchvision":
        assert content["name"].startswith(path.stem)
        weights = resolve_weights(content["name"], content["weights"])
        assert (weights is None) == (content["name"] in OWN), "torchvision publishes weights of all its classifiers"


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


def download() -> dict[str, torch.Tensor]:
    weights = resolve_weights("mobilenet_v3_small", "DEFAULT")
    assert weights is not None
    return state_of(weights, "mobilenet_v3_small")


def test_published_weights_are_downloaded_checked_and_kept(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, address = server
    theirs = nn.Linear(3, 2).state_dict()
    torch.save(theirs, folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    (folder / "weights").rename(folder / f"small-{digest[:8]}.pth")
    publish(monkeypatch, f"{address}/small-{digest[:8]}.pth")
    torch.testing.assert_close(download(), theirs, rtol=0, atol=0)
    assert (tmp_path / "torch" / "hub" / "checkpoints" / f"small-{digest[:8]}.pth").exists()
    assert socket.getdefaulttimeout() is None


def test_a_download_with_another_hash_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = server
    (folder / "small-01234567.pth").write_bytes(b"something else")
    publish(monkeypatch, f"{address}/small-01234567.pth")
    with pytest.raises(UserError, match=r"cannot be downloaded from .* \(invalid hash value .*\): set model"):
        download()


def test_a_missing_page_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, f"{server[1]}/absent-01234567.pth")
    with pytest.raises(UserError, match=r"cannot be downloaded from .*/absent-01234567\.pth \(HTTP Error 404"):
        download()


@pytest.mark.usefixtures("server")
def test_without_a_network_the_sentence_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/small-01234567.pth"
        publish(monkeypatch, url)
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        with pytest.raises(UserError) as caught:
            download()
    assert waits == [], "nobody waits to try again"
    assert str(caught.value) == (
        f"the weights IMAGENET1K_V1 of mobilenet_v3_small cannot be downloaded from {url} (<urlopen error [Errno 111] "
        "Connection refused>): set model.weights to a file, or to null for random weights"
    )


@pytest.mark.usefixtures("server")
def test_a_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/small-01234567.pth")
        with pytest.raises(UserError, match="timed out"):
            download()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("content", ["noise", "empty", "network", "list", "numbers"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    objects = {"network": nn.Linear(1, 1), "list": [1], "numbers": {"a": 1}}
    if content in objects:
        torch.save(objects[content], path)
    else:
        path.write_bytes(b"no weights " * 9 if content == "noise" else b"")
    with pytest.raises(UserError, match=r"weights\S+ cannot be read as weights \(\w+\): give a state dict"):
        read_state(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(UserError, match="cannot be read as weights"):
        read_state(tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()
