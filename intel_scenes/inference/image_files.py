"""List image files by folder, file, pattern or a list of these."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from intel_scenes.data.scenes import image_suffixes
from intel_scenes.errors import UserError


def find_images(images: str | Sequence[str]) -> list[Path]:
    """Return image files, each once, in the given order and sorted by name within a folder.

    Args:
        images: A folder, which is searched with all subfolders; a file with any suffix; a pattern such as
            `photos/**/*.jpg`; or several of these. Folders and patterns skip hidden files and folders, and files
            without the suffix of an image.

    Raises:
        UserError: A file or folder does not exist, or holds no image.
    """
    sources = [images] if isinstance(images, str) else list(images)
    paths = list(dict.fromkeys(path for source in sources for path in _images_of(source)))
    if not paths:
        raise UserError("images=[] names no image: give a folder, a file or a pattern")
    return paths


def name_of(path: Path) -> str:
    """Return a path as text that can be encoded, even if its bytes are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()


def _images_of(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        images = list(_in_folder(path))
    elif glob.has_magic(source):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        folders = {match for match in matches if match.is_dir() and "**" not in source}  # `**` lists their files, too
        files = [file for match in matches for file in (_in_folder(match) if match in folders else [match])]
        images = [file for file in files if file.is_file() and _is_image(file.name)]
    else:
        raise UserError(f"images={source}: there is no such file or folder; give a folder, a file or a pattern")
    if not images:
        raise UserError(f"images={source}: no image matches; give a folder, a file or a pattern of images")
    return images


def _in_folder(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list the folder {error.filename} ({error.strerror}): check its permissions") from error

    visited = set[str]()  # links are followed, and may lead back
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(real)
        yield from (Path(place, name) for name in sorted(names) if not name.startswith(".") and _is_image(name))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in image_suffixes()
