"""Files that are cut short or have a flipped bit are found by their checksums; what can be, is rebuilt or left out.

Of a run that goes on, see test_run; of a cache, test_cache and test_file_digests; of records that are no records,
test_record and test_comparison.
"""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.inference.load_run import load_run
from intel_scenes.record import Predictions
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.notices import Kind
from intel_scenes.training.checkpoints import is_whole, read_best
from intel_scenes.training.claim import DEATHS, Place, claimed
from tests.studies.simulated_records import leave


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / record.BEST
    path.parent.mkdir()
    torch.save({"state_dict": {"weight": torch.arange(500.0)}, "epoch": 3}, path)
    return path


def test_a_flipped_bit_of_a_checkpoint_is_found_or_changes_nothing(checkpoint: Path) -> None:
    whole, chance, num_found = checkpoint.read_bytes(), random.Random(3), 0
    for _ in range(300):
        checkpoint.write_bytes(whole)
        flip(checkpoint, chance.randrange(len(whole)), chance.randrange(8))
        if is_whole(checkpoint):  # in a date, or in the padding between two parts
            loaded = read_best(checkpoint.parent.parent)
            assert torch.equal(loaded["state_dict"]["weight"], torch.arange(500.0))
            assert loaded["epoch"] == 3
        else:
            num_found += 1
            with pytest.raises(UserError, match=r"best\.ckpt is missing or corrupt \(\w+\): remove the folder"):
                read_best(checkpoint.parent.parent)
    assert num_found > 150  # the tensor is half of the file


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short_is_found(checkpoint: Path, share: float) -> None:
    whole = checkpoint.read_bytes()
    assert is_whole(checkpoint)
    checkpoint.write_bytes(whole[: int(share * len(whole))])
    assert not is_whole(checkpoint)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two runs of each of two optimizers, whose records have the checksum of their predictions."""
    for optim, share in (("sgd", 0.7), ("adam", 0.9)):
        for seed in (1, 2):
            folder = leave(tmp_path, optim, seed, share, num_val=6)
            digest = files.sha256(folder / record.PREDICTIONS)
            summary = (folder / record.SUMMARY).read_text()
            (folder / record.SUMMARY).write_text(
                summary.replace('"predictions_digest": null', f'"predictions_digest": "{digest}"')
            )
    return tmp_path


def test_predictions_with_another_probability_are_named_and_their_run_is_left_out(study: Path) -> None:
    path = study / "optim=sgd,seed=1" / record.PREDICTIONS
    before = Predictions.read(path.parent, "test").probabilities
    flip(path, path.read_bytes().rindex(b"0.95") + 3)  # 0.94: no accuracy depends on it
    after = Predictions.read(path.parent, "test").probabilities
    assert np.abs(before - after).max() == pytest.approx(0.01)
    said = (
        f"{path} has changed since the run wrote it (its checksum in summary.json differs): remove its folder and "
        "train again"
    )
    with pytest.raises(UserError) as caught:
        load_run(path.parent)
    assert str(caught.value) == said
    (notice,) = (one for one in compare(study).notices if one.kind is Kind.NO_PREDICTIONS)
    assert notice.runs == ("optim=sgd,seed=1",)
    assert notice.values["reason"] == said.replace(f"{path.parent}/", "")


def test_predictions_of_an_earlier_version_have_no_checksum(study: Path) -> None:
    folder = leave(study, "nadam", 1, 0.5, num_val=6)
    flip(folder / record.PREDICTIONS, (folder / record.PREDICTIONS).read_bytes().index(b"0.95") + 3)
    assert load_run(folder).predictions.keys() == {"val", "test"}


@pytest.mark.parametrize("name", [record.HISTORY, DEATHS])
def test_a_run_whose_file_is_damaged_can_be_claimed(tmp_path: Path, name: str) -> None:
    (tmp_path / DEATHS).write_text('{"deaths": 0, "lines": 0}')
    (tmp_path / name).write_bytes(b"\xff{")
    with claimed(Place(tmp_path), is_first=True) as claim:
        assert claim.folder == tmp_path
