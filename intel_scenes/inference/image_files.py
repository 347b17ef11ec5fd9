"""The image files that a folder, a file, a pattern or a list of these means."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from intel_scenes.data.scenes import image_suffixes
from intel_scenes.errors import UserError


def find_images(images: str | Sequence[str]) -> list[Path]:
    """Lists image files, each once, in the order that was asked for and by name within a folder.

    Args:
        images: A folder, all of which is searched; a file, whatever its suffix; a pattern such as `photos/**/*.jpg`; or
            several of these. In folders and patterns hidden files and folders are passed over, and so is what is no
            image by its suffix.

    Raises:
        UserError: There is no such thing, or no image in it.
    """
    asked = [images] if isinstance(images, str) else list(images)
    found = list(dict.fromkeys(path for one in asked for path in _meant(one)))
    if not found:
        raise UserError("images=[] names no image: give a folder, a file or a pattern")
    return found


def name_of(path: Path) -> str:
    """A path as files and tables can hold it, whatever its bytes."""
    return str(path).encode(errors="backslashreplace").decode()


def _meant(asked: str) -> list[Path]:
    place = Path(asked).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = list(_in_folder(place))
    elif glob.has_magic(asked):
        matched = [Path(path) for path in sorted(glob.glob(str(place), recursive=True))]
        folders = {path for path in matched if path.is_dir() and "**" not in asked}  # `**` has matched what is in them
        found = [path for one in matched for path in (_in_folder(one) if one in folders else [one])]
        found = [path for path in found if path.is_file() and _is_image(path.name)]
    else:
        raise UserError(f"images={asked}: there is no such file or folder, give a folder, a file or a pattern")
    if not found:
        raise UserError(f"images={asked}: no image is there, give a folder, a file or a pattern of images")
    return found


def _in_folder(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list the folder {error.filename} ({error.strerror}): check its permissions") from error

    seen = set[str]()  # links are followed, and may lead back
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in sorted(names) if not name.startswith(".") and _is_image(name))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in image_suffixes()
