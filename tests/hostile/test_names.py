"""Names of files, classes and runs: text in pages and on terminals, cells in tables, lines in lists."""

import base64
import csv
import io
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intel_scenes import cli, files, pages
from intel_scenes.auditing import audit_page
from intel_scenes.data.layouts import read_layout
from intel_scenes.errors import UserError, printable
from intel_scenes.inference.image_files import find_images, name_of
from intel_scenes.record import Predictions
from intel_scenes.training.build import read_excluded
from intel_scenes.training.confusion import render_confusion
from intel_scenes.training.mistakes import render_mistakes
from tests.hostile import odd

FORMULAS = ("=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1")
NUMBERS = ("-1", "+1.5", "-1e-3", "1", "-inf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class for each name, with a file of that name."""
    root = tmp_path_factory.mktemp("names") / "photos"
    for name in odd.NAMES:
        (root / name).mkdir(parents=True)
        odd.picture().save(root / name / f"{name}.png")
    return root


def test_text_that_a_spreadsheet_would_compute_begins_with_an_apostrophe_and_numbers_do_not(tmp_path: Path) -> None:
    cells = [*FORMULAS, *NUMBERS, "sea/1.jpg", -0.5, None]
    files.write_csv(tmp_path / "cells.csv", ["cell"], [[cell] for cell in cells])
    with (tmp_path / "cells.csv").open(newline="") as file:
        _, *written = [row[0] if row else "" for row in csv.reader(file)]
    assert written == [*(f"'{cell}" for cell in FORMULAS), *NUMBERS, "sea/1.jpg", "-0.5", ""]
    read = [files.without_apostrophe(cell) for cell in written[: -len(cells[-2:])]]
    assert read == [cell for cell in cells if isinstance(cell, str)]


def test_every_name_is_one_cell(tmp_path: Path) -> None:
    rows = [(name, "after") for name in (*odd.NAMES, odd.NOT_UTF8)]
    files.write_csv(tmp_path / "names.csv", ("name", "next"), rows)
    with (tmp_path / "names.csv").open(newline="", encoding="utf-8") as file:
        _, *written = list(csv.reader(file))
    assert [files.without_apostrophe(name) for name, _ in written] == [*odd.NAMES, r"latin-\udce9"]
    assert {after for _, after in written} == {"after"}


def test_images_of_every_name_are_found_and_named_in_utf8(folder: Path) -> None:
    scenes = read_layout(folder).train
    assert sorted(scenes.paths) == sorted(f"{name}/{name}.png" for name in odd.NAMES)
    found = find_images(str(folder))
    assert [path.name for path in found] == [f"{name}.png" for name in sorted(odd.NAMES)]
    for path in found:
        name_of(path).encode()


@pytest.mark.parametrize("place", ["file", "class"])
def test_a_name_that_is_not_utf8_is_refused_by_name_in_a_sentence_that_can_be_printed(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", odd.NOT_UTF8 if place == "class" else "b"):
        (tmp_path / name).mkdir()
        odd.picture().save(tmp_path / name / f"{'1' if place == 'class' else odd.NOT_UTF8}.png")
    with pytest.raises(UserError, match=r"'latin-\\udce9(.png)?' in the folder .+ is not UTF-8: rename it$") as caught:
        read_layout(tmp_path)
    cli.say(str(caught.value))
    cli.say(odd.NOT_UTF8)
    assert capsys.readouterr().out.endswith("latin-\\xe9\n")
    assert sum(r"latin-\udce9" in name_of(path) for path in find_images(str(tmp_path))) == (
        1 if place == "class" else 2
    )


def test_a_list_of_images_to_leave_out_keeps_every_name_on_a_line_of_its_own(tmp_path: Path) -> None:
    paths = [f"{name}/{name}.png" for name in odd.NAMES]
    (tmp_path / "exclude.txt").write_text("# comment\n" + "\n".join(map(audit_page.line_of, paths)) + "\nsea/1.jpg\n")
    assert read_excluded(str(tmp_path / "exclude.txt")) == {*paths, "sea/1.jpg"}
    (tmp_path / "exclude.txt").write_text('"sea/1.jpg\n')
    with pytest.raises(UserError, match=r"^data.exclude=.+exclude.txt cannot be read \(Unterminated string"):
        read_excluded(str(tmp_path / "exclude.txt"))


def test_figures_of_a_run_show_every_name(folder: Path) -> None:
    numbers = np.arange(len(odd.NAMES))
    png = render_confusion(np.eye(len(odd.NAMES)), odd.NAMES, "line\nbreak")
    assert png.startswith(b"\x89PNG")
    wrong = Predictions(
        [f"{name}/{name}.png" for name in odd.NAMES], numbers, np.roll(numbers, 1), np.eye(len(odd.NAMES))
    )
    assert render_mistakes(folder, wrong, odd.NAMES, "line\nbreak").startswith(b"\x89PNG")


def test_pages_escape_every_name(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p title='{{ name }}'>{{ name }}</p>")
    for name in (*odd.NAMES, odd.NOT_UTF8):
        page = files.encoded(pages.render(tmp_path / "page.html", name=name)).decode()
        assert re.fullmatch(r"<p title='[^'<>]*'>[^<>]*</p>", page, re.DOTALL)


# Sequences that colour, move the cursor, set the title of the window, go back, or reverse the text that follows.
@pytest.mark.parametrize("text", ["\x1b[31m", "\x1b]0;title\x07", "\b\b\b", "\r", "\x9b2J", "\u202e", "\u2066"])
@pytest.mark.parametrize("way", ["say", "tell", "log"])
def test_a_terminal_gets_no_control_characters(text: str, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    ways: dict[str, Callable[[str], object]] = {"say": cli.say, "tell": cli._tell, "log": log}
    ways[way](f"class {text}sea\n\tof 6")
    out, err = capfd.readouterr()
    shown = (out + err).strip()
    assert shown == f"class {printable(text)}sea\n\tof 6"
    assert re.fullmatch(r"[ -~\n\t]+", shown)


def log(text: str) -> None:
    formatter = cli._Printable()
    cli.say(formatter.format(logging.LogRecord("intel_scenes", logging.INFO, "", 0, "%s", (text,), None)))


def test_a_thumbnail_of_16_bits_is_not_white_and_a_turned_one_is_upright(tmp_path: Path) -> None:
    for kind in ("16-bit", "turned by EXIF"):
        suffix, content, *_ = {**odd.IN_COLOR, **odd.IN_GREY}[kind]
        path = tmp_path / f"picture{suffix}"
        path.write_bytes(content())
        url = pages.picture(path)
        assert url is not None
        thumbnail = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert thumbnail.size == odd.SIZE
        look = odd.picture() if kind == "turned by EXIF" else odd.grey().convert("RGB")
        assert np.abs(np.asarray(thumbnail).astype(int) - np.asarray(look)).mean() < 4
