"""A disk that is full at any file, and folders that are mounted read-only: on file systems mounted for the test."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from intel_scenes import files, record
from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.record import Predictions, Status, Summary
from intel_scenes.studies.publish import compare_and_write
from tests.process import forked
from tests.small import DRAWN, SMALL
from tests.studies.simulated_records import leave

FILES = (
    *(record.CONFIG, record.OVERRIDES, record.SUMMARY, record.HISTORY, record.BEST, record.LAST),
    *(record.PREDICTIONS, record.CURVES, record.CONFUSION, record.MISTAKES),
)
TINY = ("model=resnet9_x0_5", "recipe=plain", "epochs=1", "data.batch_size=54")


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a mount is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=48m", "tmpfs", place)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a folder at another place, where nothing can be written, and returns that place."""
    mounted: list[Path] = []

    def at(folder: Path) -> Path:
        place = tmp_path / f"read-only-{len(mounted)}"
        place.mkdir()
        mount("--bind", folder, place)
        mounted.append(place)
        mount("-o", "remount,bind,ro", place)
        return place

    yield at
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    """Write a file that takes all the space that is left."""
    filler = disk / "filler"
    opened = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 20, 1):
            with suppress(OSError):
                while True:
                    os.write(opened, bytes(size))
    finally:
        os.close(opened)
    assert os.statvfs(disk).f_bavail == 0
    return filler


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_file_of_a_run_costs_a_sentence_and_no_result(
    run: Callable[..., Summary], disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(*TINY)
    write_whole = files.write_whole
    full_at: list[str] = []

    def written_on_a_full_disk(path: Path, content: Any) -> None:
        if full_at and str(path).endswith(full_at[0]):
            full_at.clear()
            fill(disk)
        write_whole(path, content)

    monkeypatch.setattr(files, "write_whole", written_on_a_full_disk)
    folder = disk / "run"
    for name in FILES:
        full_at.append(name)
        with pytest.raises(UserError, match=r"^no space left.*: free some space, or set hydra.run.dir=FOLDER$"):
            run(*TINY, folder=folder)
        assert not full_at, f"{name} was not written"
        (disk / "filler").unlink()
    again = run(*TINY, folder=folder)
    assert again.status is Status.COMPLETED
    assert (again.val_loss, again.test_loss) == (undisturbed.val_loss, undisturbed.test_loss)
    ours, theirs = (Predictions.read(place, "test").probabilities for place in (folder, tmp_path / "run"))
    assert (ours == theirs).all()
    assert not list(folder.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cached", "sentence"),
    [
        ((), "^drawn scenes cannot be written to .*: choose another data.cache_dir$"),
        (("drawn-*",), "^the cache folder .* cannot be written .*: set data.cache_dir to another folder$"),
        (("drawn-*", "packed-*"), "^the cache folder .* cannot be written .*: set data.cache_dir to another folder$"),
    ],
)
def test_a_full_disk_of_the_cache_is_a_sentence(
    run: Callable[..., Summary], disk: Path, cache: Path, tmp_path: Path, cached: tuple[str, ...], sentence: str
) -> None:
    heads = (*TINY, "recipe=linear_probe")
    if cached:
        run(*heads, folder=tmp_path / "before")  # fills the cache of all tests
    for pattern in cached:
        for folder in cache.glob(pattern):
            subprocess.run(["cp", "-r", folder, disk], check=True)
    filler = fill(disk)
    with pytest.raises(UserError, match=sentence):
        run(*heads, f"data.cache_dir={disk}")
    filler.unlink()
    assert not list(disk.glob(".packed-*")) + list(disk.glob(".features-*")) + list(disk.glob(".drawing-*/*"))
    assert run(*heads, f"data.cache_dir={disk}").status is Status.COMPLETED


@pytest.mark.slow
def test_a_full_disk_keeps_the_report_that_was_there(disk: Path) -> None:
    for optim, share in (("sgd", 0.7), ("adam", 0.9)):
        for seed in (1, 2):
            leave(disk / "study", optim, seed, share)
    options = CompareConfig(baseline=None, rope=0.5)
    compare_and_write(disk / "study", options)
    before = {path.name: path.read_bytes() for path in (disk / "study").iterdir() if path.is_file()}
    leave(disk / "study", "sgd", 3, 0.8)
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        compare_and_write(disk / "study", options)
    assert {path.name: path.read_bytes() for path in (disk / "study").iterdir() if path.is_file()} == before
    assert "report.html" in before


@pytest.mark.slow
def test_read_only_images_and_caches_are_enough_and_a_read_only_run_folder_is_a_sentence(
    run: Callable[..., Summary], cache: Path, tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    written = run(*TINY)
    assert run(*TINY, f"data.cache_dir={read_only(cache)}", folder=tmp_path / "second").val_loss == written.val_loss
    (tmp_path / "place").mkdir()
    place = read_only(tmp_path / "place")
    command = ("intel_scenes.train", *DRAWN, *SMALL, *TINY, f"data.cache_dir={cache}", f"hydra.run.dir={place}/run")
    done = forked(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
