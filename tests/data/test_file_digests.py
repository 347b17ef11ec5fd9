"""Unchanged files are not read again; whatever the system records of a change is seen."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from intel_scenes.data import file_digests
from intel_scenes.data.file_digests import FileDigests
from intel_scenes.errors import UserError

NAMES = ("a/1.jpg", "b/2.jpg", "b/3.jpg")


def digests_of(*contents: bytes) -> tuple[str, ...]:
    return tuple(hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in zip(NAMES, (b"one", b"two", b"three"), strict=True):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    return tmp_path / "images"


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough to be trusted at once."""
    monkeypatch.setattr(file_digests, "CLOCK_SECONDS", -60)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (names.append(path.name), read_bytes(path))[1])
    return names


@pytest.fixture
def known(tmp_path: Path, folder: Path, old: None, reads: list[str]) -> FileDigests:
    """The digests of a cache that has read the folder once."""
    digests = FileDigests(tmp_path / "cache")
    assert digests.of(folder, NAMES) == digests_of(b"one", b"two", b"three")
    assert sorted(reads) == ["1.jpg", "2.jpg", "3.jpg"]
    reads.clear()
    return digests


def overwrite(file: Path, content: bytes) -> None:
    """Change a file and set its times back, as an archive's tool may."""
    times = file.stat()
    time.sleep(0.05)  # of a coarse clock
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def kept_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_unchanged_files_are_not_read_again_in_any_order(known: FileDigests, folder: Path, reads: list[str]) -> None:
    assert known.of(folder, NAMES[::-1]) == digests_of(b"three", b"two", b"one")
    assert reads == []


def test_a_changed_file_is_read_again_whatever_its_size_and_modification_time(
    known: FileDigests, folder: Path, reads: list[str]
) -> None:
    overwrite(folder / "a/1.jpg", b"eno")
    assert known.of(folder, NAMES) == digests_of(b"eno", b"two", b"three")
    assert reads == ["1.jpg"]
    assert known.of(folder, NAMES) == digests_of(b"eno", b"two", b"three")
    assert reads == ["1.jpg"], "its new content is kept"


def test_a_file_under_another_name_is_read(known: FileDigests, folder: Path, reads: list[str]) -> None:
    (folder / "b/2.jpg").rename(folder / "b/4.jpg")
    assert known.of(folder, ["b/4.jpg"]) == digests_of(b"two")
    assert reads == ["4.jpg"]


def test_files_that_changed_since_the_last_start_are_named(
    known: FileDigests, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a/1.jpg").write_bytes(b"another")
    (folder / "b/2.jpg").rename(folder / "b/4.jpg")
    now = ["a/1.jpg", "b/3.jpg", "b/4.jpg"]
    known.of(folder, now)
    known.of(folder, now)
    assert caplog.messages == [
        f"{folder} has changed since the last start: 1 file changed: a/1.jpg; 1 file added: b/4.jpg; "
        "1 file removed: b/2.jpg"
    ]


def test_two_lists_of_one_folder_are_kept_apart(
    known: FileDigests, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known.of(folder, NAMES[:1], listed_in=folder / "list.csv")
    known.of(folder, NAMES)
    assert caplog.messages == []


def test_a_file_that_was_just_written_is_not_trusted_until_its_clock_has_moved_on(
    tmp_path: Path, folder: Path, reads: list[str]
) -> None:
    digests = FileDigests(tmp_path / "cache")
    digests.of(folder, NAMES)
    digests.of(folder, NAMES)
    assert reads.count("1.jpg") == 2


@pytest.mark.parametrize("hours", [-1, 1])
def test_times_that_a_wrong_clock_puts_into_the_future_are_not_trusted(
    hours: int, tmp_path: Path, folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + hours * 3600 * 10**9)
    for _ in range(2):
        FileDigests(tmp_path / "cache").of(folder, NAMES)
    assert reads.count("1.jpg") == (2 if hours < 0 else 1)


def test_verify_reads_all_files_and_names_the_one_that_changed_unseen(
    known: FileDigests,
    folder: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # As after a flipped bit on the disk:
    before = {name: file_digests._status(folder, name) for name in NAMES}
    monkeypatch.setattr(file_digests, "_status", lambda folder, path: before[path])
    (folder / "b/3.jpg").write_bytes(b"thref")
    assert known.of(folder, NAMES) == digests_of(b"one", b"two", b"three"), "what could go unseen"
    verifying = FileDigests(known.cache_dir, verify=True)
    assert verifying.of(folder, NAMES) == digests_of(b"one", b"two", b"thref")
    assert sorted(reads) == ["1.jpg", "2.jpg", "3.jpg"]
    assert caplog.messages == [
        f"1 file of {folder} changed without a change of size or times: b/3.jpg; records of runs since then have "
        "old digests",
        f"{folder} has changed since the last start: 1 file changed: b/3.jpg",
    ]
    assert known.of(folder, NAMES) == digests_of(b"one", b"two", b"thref"), "the new digest is kept"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_digests_are_named_and_all_files_are_read_again(
    damage: str, known: FileDigests, folder: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert known.cache_dir is not None
    file = kept_file(known.cache_dir)
    content = bytearray(file.read_bytes())
    content[content.index(bytes.fromhex(digests_of(b"two")[0]))] ^= 1
    half = bytes(content[: len(content) // 2])
    file.write_bytes({"cut": half, "flipped": bytes(content), "empty": b"", "other": b"{}"}[damage])
    reads.clear()
    assert known.of(folder, NAMES) == digests_of(b"one", b"two", b"three")
    assert sorted(reads) == ["1.jpg", "2.jpg", "3.jpg"]
    assert caplog.messages[0].startswith(f"{file} is damaged, so all files are read again")
    assert known.of(folder, NAMES) == digests_of(b"one", b"two", b"three")
    assert reads.count("1.jpg") == 1, "they were kept anew"


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, folder: Path, old: None) -> None:
    (tmp_path / "file").touch()
    assert FileDigests(tmp_path / "file/cache").of(folder, NAMES) == digests_of(b"one", b"two", b"three")


def test_a_missing_file_is_a_user_error_also_if_it_was_known(known: FileDigests, folder: Path) -> None:
    (folder / "b/2.jpg").unlink()
    with pytest.raises(UserError, match=r"/b/2.jpg cannot be read \(No such file or directory\): repair or remove it$"):
        known.of(folder, NAMES)


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path, old: None, reads: list[str]) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        (tmp_path / name).write_bytes(b"one")
    except OSError:
        pytest.skip("this file system has no such names")
    digests = FileDigests(tmp_path / "cache")
    assert digests.of(tmp_path, [name]) == digests.of(tmp_path, [name]) == digests_of(b"one")
    assert len(reads) == 1


def test_no_files_have_no_digests(tmp_path: Path) -> None:
    assert FileDigests(tmp_path / "cache").of(tmp_path, []) == ()
