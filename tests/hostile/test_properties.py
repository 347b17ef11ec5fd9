"""Properties of readers, splits, augmentation and statistics for drawn input; see conftest.py for long runs."""

import csv
import io
import json
import os
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score
from statsmodels.stats.proportion import proportion_confint

from intel_scenes import files, record
from intel_scenes.config import AugmentConfig, of_record
from intel_scenes.data import augment
from intel_scenes.data.layouts import read_layout
from intel_scenes.data.mixing import Mixing, mix
from intel_scenes.data.packed import decoded, store_square, store_whole
from intel_scenes.data.splits import nested_mask, stratified_folds, stratified_mask
from intel_scenes.errors import UserError
from intel_scenes.inference.image_files import find_images
from intel_scenes.probabilities import at_temperature, balanced_accuracy, confusion_of, macro_f1
from intel_scenes.record import History, Predictions, Summary, read_study
from intel_scenes.studies.load import collect
from intel_scenes.studies.statistics.estimates import wilson
from intel_scenes.studies.statistics.verdicts import holm
from tests.hostile import odd

SECONDS = 10  # for one image or record
SIDE = 16

ODD = {**odd.IN_COLOR, **odd.IN_GREY, **odd.OF_ONE_COLOR}
SEEDS = [content() for _, content, _ in ODD.values()]
# Any name that a file system takes, of bytes that need not be UTF-8.
NAMES = st.one_of(
    st.sampled_from(odd.NAMES),
    st.binary(min_size=1, max_size=20)
    .filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
    .map(os.fsdecode),
)
TEXTS = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Content with parts overwritten, inserted, removed, repeated or cut off."""
    content = draw(contents)
    for _ in range(draw(st.integers(1, 6))):
        place, length = draw(st.integers(0, len(content))), draw(st.integers(0, 64))
        part = draw(st.binary(max_size=16) | st.just(content[place : place + length]) | st.sampled_from(VALUES))
        kept = draw(st.sampled_from((place, place + length, len(content))))
        content = content[:place] + part + content[kept:]
    return content


VALUES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0", b"\xff\xd8", b"IDAT", b"\x80")


@given(damaged(st.sampled_from(SEEDS)))
def test_a_damaged_image_is_stored_or_refused_with_a_reason_in_time(content: bytes) -> None:
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as where images are packed
        square = decoded(content, lambda image: store_square(image, SIDE))
        whole = decoded(content, lambda image: store_whole(image, SIDE, "bilinear"))
    if isinstance(square, str):
        assert square
        assert "Warning" not in square
        assert isinstance(whole, str)
    else:
        assert square.shape == (SIDE, SIDE, 3)
        assert square.dtype == np.uint8
        assert not isinstance(whole, str), whole
        assert min(whole.shape[:2]) == SIDE
    assert time.monotonic() - start < SECONDS


ENTRIES = ("image", "text", "folder", "pipe", "loop", "nowhere", "outside", "up")


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.sampled_from(ENTRIES), max_size=5), max_size=5))
def test_any_folder_is_read_or_refused_in_a_sentence_and_nothing_in_it_changes(
    classes: dict[str, dict[str, str]],
) -> None:
    with TemporaryDirectory() as place:
        root, outside = Path(place, "root"), Path(place, "outside")
        outside.mkdir()
        root.mkdir()
        (outside / "1.png").write_bytes(SEEDS[0])
        for name, entries in classes.items():
            (root / name).mkdir(exist_ok=True)
            for entry, kind in entries.items():
                make(root / name / f"{entry}.png", kind, outside)
        before = listing(place)
        start = time.monotonic()
        with suppress(UserError):
            for scenes in read_layout(root).by_split.values():
                assert all(scenes.file(index).is_file() for index in range(len(scenes)))
        with suppress(UserError):
            assert find_images(str(root))
        assert time.monotonic() - start < SECONDS
        assert listing(place) == before


def make(path: Path, kind: str, outside: Path) -> None:
    if path.exists() or path.is_symlink():
        return
    if kind in ("image", "text"):
        path.write_bytes(SEEDS[0] if kind == "image" else b"text")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"loop": path, "nowhere": "gone", "outside": outside, "up": path.parent}[kind])


def listing(place: str) -> set[tuple[bytes, int]]:
    return {
        (os.fsencode(os.path.join(folder, name)), os.lstat(os.path.join(folder, name)).st_mtime_ns)
        for folder, folders, names in os.walk(place)
        for name in (*folders, *names)
    }


@given(st.lists(st.lists(TEXTS | st.sampled_from(odd.NAMES) | st.floats() | st.integers() | st.none(), min_size=2)))
def test_every_text_of_a_table_is_read_back_as_it_was(rows: list[list[object]]) -> None:
    with TemporaryDirectory() as place:
        path = Path(place, "table.csv")
        files.write_csv(path, ("a", "b"), rows)
        content = path.read_bytes().decode()
    _, *read = csv.reader(io.StringIO(content, newline=""))
    assert [len(row) for row in read] == [len(row) for row in rows]
    for cells, row in zip(read, rows, strict=True):
        for cell, value in zip(cells, row, strict=True):
            if isinstance(value, str):
                assert files.without_apostrophe(cell).encode(errors="replace") == value.encode(errors="replace")
            assert not cell.startswith(("=", "@", "\t", "\r", "\n"))


RECORDED = {
    **{"status": "completed", "val_accuracy": 0.5, "test_accuracy": 0.5, "classes": ["a", "b"], "seed": 1},
    **{"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}, "test_confusion": [[1, 0], [0, 1]], "lr": 0.1},
    **{"recipe_resolved": {"recipe": {"views": 1}}, "versions": {"torch": "2"}},
}


@given(st.dictionaries(st.sampled_from(record.SUMMARY_KEYS) | TEXTS, JSON, max_size=5))
def test_any_summary_is_read_or_refused_in_a_sentence(changed: dict[str, object]) -> None:
    read_record(record.SUMMARY, json.dumps(RECORDED | changed).encode())


PREDICTED = b"split,path,label,predicted,a,b\nval,a/1.png,0,0,0.9,0.1\ntest,a/2.png,0,0,0.9,0.1\n" + (
    b'test,"b/3,4.png",1,0,0.6,0.4\n'
)
FILES = {
    record.SUMMARY: json.dumps(RECORDED).encode(),
    record.PREDICTIONS: PREDICTED,
    record.HISTORY: ",".join(record.HISTORY_COLUMNS).encode() + b"\n0,10,0.1,1.0,0.5,0.5,1.0,0.5,100.0,\n",
    record.OVERRIDES: b"- optim=sgd\n- seed=1\n",
    record.CONFIG: b"seed: 1\ndata: {root: a, batch_size: 8}\nmodel: {name: resnet18, _target_: os.system}\n",
    record.STUDY: b"question: null\ncompared: [optim]\nplanned: [a]\nthreads: 1\nconfirmed:\n- arms:\n  - label: x\n",
}


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_any_damaged_file_of_a_record_is_read_or_refused_in_a_sentence(name: str, data: st.DataObject) -> None:
    read_record(name, data.draw(damaged(st.just(FILES[name]))))


def read_record(name: str, content: bytes) -> None:
    """Read a run whose other files are whole, by every reader."""
    with TemporaryDirectory() as place:
        run = Path(place, "study", "run")
        run.mkdir(parents=True)
        for other, of_other in FILES.items():
            (run / other).write_bytes(content if other == name else of_other)
        (run.parent / record.STUDY).write_bytes((run / record.STUDY).read_bytes())
        before = listing(place)
        start = time.monotonic()
        for read in (
            lambda: Summary.read(run),
            lambda: History.read(run),
            lambda: Predictions.read(run, "test"),
            lambda: Predictions.read_classes(run),
            lambda: of_record(run),
            lambda: read_study(run.parent),
        ):
            with suppress(UserError):
                read()
        runs, notices = collect(run.parent)
        assert len(runs) + len(notices) == 1
        assert time.monotonic() - start < SECONDS
        assert listing(place) == before


LABELS = arrays.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 4))
FRACTIONS = st.floats(0.01, 0.99)


@given(LABELS, st.data(), FRACTIONS, st.integers(0, 2**32))
def test_a_split_keeps_copies_together_and_takes_its_share_of_every_class(
    labels: np.ndarray, data: st.DataObject, fraction: float, seed: int
) -> None:
    contents = data.draw(st.lists(st.integers(0, 80).map(str), min_size=len(labels), max_size=len(labels)))
    mask = stratified_mask(labels, contents, fraction, seed)
    folds = stratified_folds(labels, contents, 3, seed)
    for content in set(contents):
        of_content = [place for place, one in enumerate(contents) if one == content]
        assert len({mask[place] for place in of_content}) == 1
        assert len({folds[place] for place in of_content}) == 1
    firsts = {content: labels[contents.index(content)] for content in contents}
    taken = Counter(int(firsts[content]) for content, is_taken in zip(contents, mask, strict=True) if is_taken)
    for label, number in taken.items():
        assert number <= max(1, round(fraction * int((labels == label).sum())))
    assert (mask == stratified_mask(labels, contents, fraction, seed)).all()


@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(16, 300), st.integers(16, 300)), min_size=1, max_size=8),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted),
)
def test_a_random_crop_lies_in_its_image(
    seed: int, epoch: int, sizes: list[tuple[int, int]], scale: list[float], ratio: list[float]
) -> None:
    draws = augment.uniform_draws(seed, epoch, np.arange(len(sizes)))
    assert ((draws >= 0) & (draws < 1)).all()
    config = AugmentConfig(scale=tuple(scale), ratio=tuple(ratio), flip=0.5, policy=None)
    top, left, height, width = augment.crop_boxes(draws, np.array(sizes), config).T
    assert (np.minimum(top, left) >= 0).all()
    assert (np.minimum(height, width) >= 1).all()
    assert (top + height <= np.array(sizes)[:, 0]).all()
    assert (left + width <= np.array(sizes)[:, 1]).all()


@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0.05, 4), st.booleans())
def test_mixed_labels_are_shares_and_mixed_pixels_lie_between_those_of_the_images(
    seed: int, num: int, alpha: float, is_cut: bool
) -> None:
    images = torch.from_numpy(np.random.default_rng(seed).normal(size=(num, 3, 8, 8)).astype(np.float32))
    labels = torch.arange(num) % 3
    mixing = Mixing(0, alpha) if is_cut else Mixing(alpha, 0)
    mixed, shares = mix(images.clone(), labels, augment.uniform_draws(seed, 0, np.arange(num)), mixing, 3)
    assert shares.shape == (num, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(num))
    assert (shares >= 0).all()
    assert mixed.min() >= images.min() - 1e-5
    assert mixed.max() <= images.max() + 1e-5


@given(st.integers(1, 10**6).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_a_wilson_interval_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    low, high = wilson(*counts)
    assert (low, high) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-9)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_raises_p_values_by_the_number_of_tests_left_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted, _ = holm(p_values)
    least = p_values.index(min(p_values))
    assert adjusted[least] == pytest.approx(min(1, len(p_values) * p_values[least]))
    for p, adjusted_p in zip(p_values, adjusted, strict=True):
        assert p <= adjusted_p <= 1
        assert all(adjusted_p <= other for q, other in zip(p_values, adjusted, strict=True) if p < q)


@given(LABELS, st.data())
def test_scores_are_those_of_scikit_learn(labels: np.ndarray, data: st.DataObject) -> None:
    predicted = data.draw(arrays.arrays(np.int64, len(labels), elements=st.integers(0, 4)))
    counts = confusion_of(predicted, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class, and of one that has predictions but no images
        assert (counts == confusion_matrix(labels, predicted, labels=range(len(counts)))).all()
        assert balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert macro_f1(counts) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-50, 50)),
    st.floats(0.05, 20),
)
def test_a_temperature_keeps_the_most_likely_class_and_the_sum(logits: np.ndarray, temperature: float) -> None:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    calibrated = at_temperature(powers / powers.sum(1, keepdims=True), temperature)
    np.testing.assert_allclose(calibrated.sum(1), 1)
    rows = np.arange(len(logits))
    np.testing.assert_allclose(calibrated[rows, logits.argmax(1)], calibrated.max(1))


@given(LABELS, st.data(), st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(0, 1000))
def test_a_smaller_subset_lies_in_a_larger_one(
    labels: np.ndarray, data: st.DataObject, one: float, other: float, seed: int
) -> None:
    contents = data.draw(st.lists(st.integers(0, 80).map(str), min_size=len(labels), max_size=len(labels)))
    with suppress(UserError):  # a share that rounds to no image
        small, large = (nested_mask(labels, contents, share, seed, "abcde") for share in sorted((one, other)))
        assert not (small & ~large).any()
