import threading
from pathlib import Path

import numpy as np
import pytest

from intel_scenes.data.cache import arrays, make_once
from intel_scenes.errors import UserError


def test_a_folder_is_created_once_by_concurrent_calls(tmp_path: Path) -> None:
    folder, calls, barrier = tmp_path / "cache" / "made", [], threading.Barrier(4)

    def write(partial: Path) -> None:
        calls.append(partial)
        assert not folder.exists()
        (partial / "a").write_text("whole")

    def ask() -> None:
        barrier.wait()
        make_once(folder, write)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (folder / "a").read_text() == "whole"


def test_a_failed_creation_leaves_no_folder(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        (partial / "half").write_text("")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        make_once(tmp_path / "made", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["made.lock"]


def test_files_left_by_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".made").mkdir()
    (tmp_path / ".made" / "half").write_text("")
    make_once(tmp_path / "made", lambda partial: (partial / "a").touch())
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["a", "sha256.json"]


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"^the cache folder .*/file cannot be written \(.*\): set data.cache_dir to another folder$"
    ):
        make_once(tmp_path / "file" / "made", lambda partial: None)


@pytest.mark.parametrize("num_bytes", [0, 50, 200])
def test_a_truncated_array_is_a_user_error_that_names_its_folder(tmp_path: Path, num_bytes: int) -> None:
    np.save(tmp_path / "a.npy", np.arange(100))
    assert [array.tolist() for array in arrays(tmp_path, "a")] == [list(range(100))]
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:num_bytes])
    with pytest.raises(UserError, match=f"^the cache folder {tmp_path} is corrupt .*: remove it$"):
        arrays(tmp_path, "a")


def test_verify_finds_a_flipped_bit_and_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    def write(partial: Path) -> None:
        (partial / "a").write_bytes(b"one")
        (partial / "b").write_bytes(b"two")

    make_once(folder, write)
    make_once(folder, write, verify=True)
    (folder / "b").write_bytes(bytes([b"two"[0] ^ 1]) + b"wo")
    make_once(folder, write)
    with pytest.raises(UserError) as caught:
        make_once(folder, write, verify=True)
    assert str(caught.value) == f"the cache folder {folder} is corrupt (the checksum of b is wrong): remove it"


def test_a_cache_of_an_earlier_version_cannot_be_verified(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    make_once(tmp_path / "made", lambda partial: None)
    with pytest.raises(UserError, match=r"/made is of an earlier version, without checksums: remove it$"):
        make_once(tmp_path / "made", lambda partial: None, verify=True)
