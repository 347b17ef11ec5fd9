import io
import json
import os
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from intel_scenes.data import sources
from intel_scenes.data.drawn_scenes import KINDS, draw_scene
from intel_scenes.data.scenes import duplicates, fingerprint, kaggle_split_folder, read_scenes
from intel_scenes.data.sources import drawn_folder, kaggle_folder
from intel_scenes.errors import UserError

# What kagglehub 1.0.3 asks api.kaggle.com for.
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"


class Kaggle(ThreadingHTTPServer):
    """A stand-in that kagglehub reaches as its proxy; answers every request with the same archive."""

    daemon_threads = True

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.archive = archive
        self.num_bytes = len(archive)
        self.requests: list[tuple[str, dict[str, object]]] = []


class Answer(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        self.wfile.write(self.server.archive[: self.server.num_bytes])

    def log_message(self, format: str, *args: object) -> None:
        pass


def image_bytes(kind: str, number: int) -> bytes:
    file = io.BytesIO()
    draw_scene(kind, 32, np.random.default_rng(number)).save(file, format="jpeg")
    return file.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    splits = ("seg_train/seg_train", "seg_test/seg_test")
    images = {f"{split}/{kind}/{n}.jpg": image_bytes(kind, n) for n, split in enumerate(splits) for kind in KINDS}
    return images | {"seg_pred/seg_pred/1.jpg": image_bytes("sea", 3)}


def archive_of(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return archive.getvalue()


def reach_kaggle_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")


@pytest.fixture(autouse=True)
def apart_from_the_users_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")  # asks http://localhost, without encryption


@pytest.fixture
def kaggle(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    with Kaggle(archive_of(files)) as server:
        reach_kaggle_at(server.server_port, monkeypatch)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def offline(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reach_kaggle_at(closed_port, monkeypatch)


def visible_files(folder: Path) -> dict[str, bytes]:
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {name.as_posix(): (folder / name).read_bytes() for name in names if not name.as_posix().startswith(".")}


def test_a_folder_with_seg_train_is_returned_without_asking_kaggle(tmp_path: Path, kaggle: Kaggle) -> None:
    (tmp_path / "data" / "seg_train").mkdir(parents=True)
    assert kaggle_folder(tmp_path / "data") == tmp_path / "data"
    assert kaggle.requests == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_folder_is_filled_once(
    exists: bool, tmp_path: Path, kaggle: Kaggle, files: dict[str, bytes]
) -> None:
    root = tmp_path / "new" / "data"
    if exists:
        root.mkdir(parents=True)
    assert kaggle_folder(root) == root
    assert visible_files(root) == files
    assert kaggle_folder(root) == root
    [(path, body)] = kaggle.requests
    assert path.endswith(DOWNLOAD)
    asked = {"ownerSlug": "puneet6060", "datasetSlug": "intel-image-classification", "datasetVersionNumber": 2}
    assert asked.items() <= body.items()


def test_a_download_is_announced_and_leaves_stdout_alone(
    tmp_path: Path, kaggle: Kaggle, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    kaggle_folder(tmp_path / "data")
    assert caplog.messages == [f"downloading the Intel scenes from Kaggle (350 MB) to {tmp_path}/data"]
    assert capfd.readouterr().out == ""


def test_without_a_folder_kagglehubs_cache_serves_the_second_call_offline(
    kaggle: Kaggle, files: dict[str, bytes], request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    folder = kaggle_folder(None)
    assert visible_files(folder) == files
    request.getfixturevalue("offline")
    assert kaggle_folder(None) == folder
    assert len(caplog.messages) == 1


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["data", None])
def test_a_refused_connection_fails_at_once_and_says_how_to_download(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(UserError) as caught:
        kaggle_folder(tmp_path / name if name else None)
    assert waits == [], "nobody waits to try again"
    sentence = str(caught.value)
    assert re.match(r"/\S+ has no images, and the download failed \(ProxyError: ", sentence)
    assert name is None or str(tmp_path / name) in sentence
    assert sentence.endswith(
        "): download the Intel scenes from https://www.kaggle.com/datasets/puneet6060/"
        "intel-image-classification, unpack them and set data.root=FOLDER or INTEL_SCENES_DATA=FOLDER; or use "
        "data=synthetic, which needs no download"
    )
    assert "\n" not in sentence
    assert visible_files(tmp_path / "data") == {}


def test_without_a_proxy_the_connection_is_tried_before_kagglehub_waits_for_it(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "_KAGGLE_ADDRESS", ("127.0.0.1", closed_port))
    with pytest.raises(UserError, match=r"^.+ has no images, and the download failed \(ConnectionRefusedError: "):
        kaggle_folder(None)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["data", None])
def test_a_connection_lost_halfway_leaves_nothing_that_looks_complete(
    name: str | None, tmp_path: Path, kaggle: Kaggle, files: dict[str, bytes]
) -> None:
    root = tmp_path / name if name else None
    kaggle.num_bytes //= 2
    with pytest.raises(UserError, match=r"^.+ has no images, and the download failed "):
        kaggle_folder(root)
    assert not list(tmp_path.rglob("seg_train"))
    kaggle.num_bytes *= 3
    assert visible_files(kaggle_folder(root)) == files


def test_another_archive_than_expected_is_refused(tmp_path: Path, kaggle: Kaggle) -> None:
    kaggle.archive = archive_of({"readme.txt": b"moved"})
    with pytest.raises(
        UserError, match=r"^the download from Kaggle in .* has no seg_train: download the Intel scenes from"
    ):
        kaggle_folder(tmp_path / "data")
    assert visible_files(tmp_path / "data") == {}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, kaggle: Kaggle) -> None:
    (tmp_path / "photos" / "buildings").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        kaggle_folder(tmp_path / "photos")
    assert str(caught.value) == (
        f"{tmp_path}/photos holds buildings but no seg_train: set data.root to the folder that holds seg_train and "
        "seg_test, or to an empty or new folder to download them; for images of your own, add data=folder"
    )
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["buildings"]
    assert kaggle.requests == []


def test_a_move_interrupted_before_its_last_step_is_completed(
    tmp_path: Path, kaggle: Kaggle, files: dict[str, bytes]
) -> None:
    for name in [name for name in files if name.startswith("seg_test")]:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(files[name])
    assert kaggle_split_folder(kaggle_folder(tmp_path), "seg_train") == tmp_path / "seg_train" / "seg_train"
    assert files.items() <= visible_files(tmp_path).items()


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"^the folder .*/data cannot be written "):
        kaggle_folder(tmp_path / "data")


@pytest.mark.parametrize("name", ["data", None])
def test_concurrent_calls_download_once(name: str | None, tmp_path: Path, kaggle: Kaggle) -> None:
    root = tmp_path / name if name else None
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(kaggle_folder, [root] * 4))
    assert len(folders) == 1
    assert len(kaggle.requests) == 1


def few(cache_dir: Path, *, num_train: int = 14, num_test: int = 6, size: int = 24, seed: int = 3) -> Path:
    return drawn_folder(cache_dir, num_train=num_train, num_test=num_test, size=size, seed=seed)


def test_drawn_images_are_spread_evenly_over_the_kinds_in_kaggles_layout(tmp_path: Path) -> None:
    folder = few(tmp_path)
    train = read_scenes(kaggle_split_folder(folder, "seg_train"))
    test = read_scenes(kaggle_split_folder(folder, "seg_test"), classes=KINDS)
    assert train.classes == KINDS
    assert np.bincount(train.labels).tolist() == [3, 3, 2, 2, 2, 2]
    assert np.bincount(test.labels).tolist() == [1] * 6
    with Image.open(train.root / train.paths[0]) as image:
        assert (image.format, image.size) == ("JPEG", (24, 24))


def test_the_same_arguments_draw_the_same_bytes_and_only_once(tmp_path: Path) -> None:
    folder = few(tmp_path / "a")
    drawn_at = folder.stat().st_mtime_ns
    assert few(tmp_path / "a") == folder
    assert folder.stat().st_mtime_ns == drawn_at
    assert visible_files(few(tmp_path / "b")) == visible_files(folder)


def test_each_argument_has_its_own_folder(tmp_path: Path) -> None:
    changes: tuple[dict[str, int], ...] = ({}, {"num_train": 15}, {"num_test": 7}, {"size": 25}, {"seed": 4})
    assert len({few(tmp_path, **change) for change in changes}) == 5
    assert len(list(tmp_path.iterdir())) == 5


def test_an_image_does_not_depend_on_how_many_others_are_drawn(tmp_path: Path) -> None:
    some, more = visible_files(few(tmp_path)), visible_files(few(tmp_path, num_train=20, num_test=9))
    assert some.items() < more.items()


def test_no_image_is_drawn_twice(tmp_path: Path) -> None:
    folder = few(tmp_path, num_train=60, num_test=60)
    train, test = (read_scenes(kaggle_split_folder(folder, split)) for split in ("seg_train", "seg_test"))
    assert len(set(train.contents + test.contents)) == 120
    assert duplicates(test, train) == []


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(range(9))

    def interrupted(kind: str, size: int, generator: np.random.Generator) -> Image.Image:
        if next(drawn) == 8:
            raise KeyboardInterrupt
        return draw_scene(kind, size, generator)

    monkeypatch.setattr(sources, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        few(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_draw_at_once_end_with_one_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        folders = set(pool.map(partial(drawn_folder, num_train=120, num_test=6, size=24, seed=3), [tmp_path] * 2))
    assert list(tmp_path.iterdir()) == list(folders)
    assert fingerprint(read_scenes(kaggle_split_folder(folders.pop(), "seg_train"))) == fingerprint(
        read_scenes(kaggle_split_folder(few(tmp_path / "alone", num_train=120), "seg_train"))
    )


def test_drawing_is_logged_in_one_line_without_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "intel_scenes"):
        few(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == ["drawing scenes (20 images)"]


def test_too_few_images_for_the_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^data.num_train=14 and data.num_test=5 must each be at least 6, so that every class has an image$",
    ):
        few(tmp_path, num_test=5)


def test_a_cache_folder_that_cannot_be_created_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(
        UserError, match=r"^drawn scenes cannot be written to .*/cache .*: choose another data.cache_dir$"
    ):
        few(tmp_path / "cache")
