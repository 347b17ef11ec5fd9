"""The audit command in a process of its own, as a user runs it, and its errors in this process."""

import csv
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from intel_scenes.audit import audit
from intel_scenes.auditing.audit_images import audit_images
from intel_scenes.auditing.audit_page import summary_text, write
from intel_scenes.composition import configured
from intel_scenes.config import AuditConfig
from intel_scenes.errors import UserError
from tests.process import python
from tests.small import composed

SMALL = (
    *("data=folder", "data.root=images", "data.cache_dir=cache", "data.store_size=32", "data.image_size=32"),
    *("model=resnet18", "model.weights=null", "threads=1"),
)
COLOURS = {"dusk": (200, 90, 60), "noon": (60, 110, 220)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of coloured noise with 30 training and 10 test images each, and one image for each kind of issue."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, number in (("seg_train", 30), ("seg_test", 10)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                noise = generator.normal(colour, 30, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).resize((32, 32)).save(folder / f"{index:02}.png")
    train, test = root / "seg_train", root / "seg_test"
    shutil.copy(train / "dusk/00.png", train / "noon/copy.png")  # under another label
    shutil.copy(train / "noon/01.png", train / "noon/twin.png")
    shutil.copy(train / "noon/02.png", test / "noon/leak.png")
    Image.open(train / "dusk/03.png").save(train / "dusk/other.bmp")  # the same pixels in another file
    Image.open(train / "noon/04.png").resize((40, 32)).save(train / "noon/wide.png")
    (train / "dusk/broken.png").write_bytes((train / "dusk/05.png").read_bytes()[:200])
    (train / "noon/07.png").replace(train / "dusk/wrong.png")
    return root


@pytest.fixture
def place(images, tmp_path):
    """A folder that holds only the images."""
    (tmp_path / "images").symlink_to(images)
    return tmp_path


def audit_config(root, cache, *overrides):
    images = (f"data.root={root}", f"data.cache_dir={cache}")
    return configured(composed(*SMALL, *images, *overrides, command="audit"), AuditConfig)


def audited(root, cache, *overrides):
    """Return the result of an audit in this process."""
    return audit_images(audit_config(root, cache, *overrides))


def rows(folder, kind):
    with (folder / "audit.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["kind"] == kind]


def test_all_issues_are_found_printed_and_listed(place):
    done = python("-W", "error", "-m", "intel_scenes.audit", *SMALL, "near=1e-6", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in place.iterdir()) == ["audit", "cache", "images"]
    folder = place / "audit"
    assert sorted(path.name for path in folder.iterdir()) == ["audit.csv", "audit.html", "exclude.txt"]

    (broken,) = rows(folder, "unreadable")
    assert (broken["split"], broken["path"], broken["label"]) == ("train", "dusk/broken.png", "dusk")
    assert [(row["path"], row["reason"]) for row in rows(folder, "odd")] == [("noon/wide.png", "size: 40 x 32 pixels")]
    identical = {
        (row["path"], row["other_split"], row["other_path"], row["flagged"]) for row in rows(folder, "identical")
    }
    assert identical == {
        ("dusk/00.png", "train", "noon/copy.png", "True"),
        ("noon/01.png", "train", "noon/twin.png", "False"),
        ("noon/02.png", "test", "noon/leak.png", "False"),
    }
    (near,) = rows(folder, "near")
    assert (near["path"], near["other_path"], near["flagged"]) == ("dusk/03.png", "dusk/other.bmp", "False")
    doubtful = [row for row in rows(folder, "label") if row["flagged"] == "True" and row["split"] == "train"]
    assert {row["path"]: row["suggested"] for row in doubtful} == {"dusk/wrong.png": "noon", "noon/copy.png": "dusk"}

    assert done.stdout.startswith(
        "1 test image is also in the training set (with the same label); 2 training images are identical to "
        "another training image (1 with a different label).\nAn estimated "
    )
    assert done.stdout.endswith(
        "written to audit: audit.html, audit.csv, exclude.txt\n"
        "to train without the 3 training images in exclude.txt: data.exclude=audit/exclude.txt\n"
        "to train without the unreadable images: data.on_unreadable=skip\n"
    )
    text = (folder / "audit.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert text.count('<img src="data:image/jpeg;base64,') > 8
    listed = [line for line in (folder / "exclude.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed == ["dusk/00.png", "noon/copy.png", "noon/02.png"]


def test_a_list_without_images_is_called_empty(images, cache, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("seg_train", "seg_test"):
        for name in COLOURS:
            shutil.copytree(images / split / name, tmp_path / "clean" / split / name)
    for path in ("noon/copy.png", "noon/twin.png", "dusk/broken.png"):
        (tmp_path / "clean/seg_train" / path).unlink()
    (tmp_path / "clean/seg_test/noon/leak.png").unlink()
    audit(audit_config(tmp_path / "clean", cache), None)
    assert capsys.readouterr().out.endswith(
        "written to audit: audit.html, audit.csv, exclude.txt\n"
        "exclude.txt lists no image: there is nothing to leave out\n"
    )


def test_data_exclude_leaves_out_what_an_audit_lists(images, cache, tmp_path):
    write(audited(images, cache, "exclude.labels=true"), tmp_path)
    result = audited(images, cache, f"data.exclude={tmp_path / 'exclude.txt'}")
    gone = {"dusk/00.png", "noon/copy.png", "noon/02.png", "dusk/wrong.png"}
    assert {path.name for path in (images / "seg_train/dusk").iterdir()} - {
        path.partition("/")[2] for path in result.scenes["train"].paths if path.startswith("dusk/")
    } == {"broken.png", "00.png", "wrong.png"}
    assert gone.isdisjoint(result.scenes["train"].paths)
    assert [heading for heading, paths in result.exclude if paths] == []


def test_flipped_labels_are_found_again(images, cache):
    result = audited(images, cache, "flip=0.1")
    assert result.recovery.flipped == 6  # a tenth of 64
    assert result.recovery.early >= 0.8
    assert (
        f"Of 6 training labels that were flipped for the check, {100 * result.recovery.recall:.1f} % are flagged"
        in summary_text(result)
    )


def test_without_cleanlab_all_other_issues_are_found(images, cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    result = audited(images, cache)
    assert 'Labels were not checked: install cleanlab with pip install "intel-scenes[audit]".' in summary_text(result)
    assert {finding.kind for finding in result.findings} == {"unreadable", "odd", "identical", "near"}
    write(result, tmp_path)
    assert "Labels were not checked" in (tmp_path / "audit.html").read_text()
    with pytest.raises(UserError, match=r"^flip and exclude.labels need cleanlab, .* pip install"):
        audited(images, cache, "flip=0.1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("flip=2", "flip=2 must be a number from 0 to 0.5"),
        ("near=-1", "near=-1 must be a number from 0 to 1"),
        ("folds=1", "folds=1 must be a whole number of at least 2"),
        ("seed=-1", "seed=-1 must be a whole number of at least 0"),
        ("output=null", "output=null must be a name or a path"),
        ("exclude.labels=3", "exclude.labels=3 must be one of true, false"),
        (
            "data.root=nowhere",
            "the folder nowhere does not exist: set data.root to the folder of your images",
        ),
        ("+nearr=0.1", "there is no key nearr (did you mean near?); --help lists all keys"),
        ("model=torchvision", "an audit needs a model that ends in a linear layer, which squeezenet1_1 does not: "),
    ],
)
def test_user_errors_are_one_sentence(images, cache, override, said):
    name = ["model.name=squeezenet1_1"] if override == "model=torchvision" else []
    with pytest.raises(UserError) as caught:
        audited(images, cache, override, *name)
    assert str(caught.value).startswith(said)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(place):
    (place / "audit").write_text("a file")
    done = python("-m", "intel_scenes.audit", *SMALL, cwd=place)
    assert done.returncode == 1
    assert done.stderr == "output=audit cannot be written: name a writable folder\n"
    assert sorted(path.name for path in place.iterdir()) == ["audit", "images"]


def test_a_class_too_small_to_validate_on_is_audited(images, cache, tmp_path):
    root = tmp_path / "few"
    shutil.copytree(images, root)
    for split in ("seg_train", "seg_test"):
        (root / split / "night").mkdir()
        Image.new("RGB", (32, 32), (10, 10, 40)).save(root / split / "night/0.png")
    result = audited(root, cache)
    assert ("test", "night/0.png", "identical") in {(one.other_split, one.path, one.kind) for one in result.findings}


def test_a_validation_folder_is_audited_as_a_split_of_its_own(images, cache, tmp_path):
    root = tmp_path / "parted"
    shutil.copytree(images / "seg_train", root / "train")
    shutil.copytree(images / "seg_test", root / "val")
    for name in COLOURS:
        (root / "test" / name).mkdir(parents=True)
        for index in (8, 9):
            (root / "val" / name / f"{index:02}.png").rename(root / "test" / name / f"{index:02}.png")
    shutil.copy(root / "val/dusk/00.png", root / "test/dusk/copy.png")
    shutil.copy(root / "val/dusk/01.png", root / "val/noon/99.png")
    (root / "val/noon/98.png").write_bytes(b"no image")
    Image.open(root / "val/noon/02.png").save(root / "train/noon/near.bmp")  # the same pixels in another file
    result = audited(root, cache, "near=1e-6")
    assert [len(result.scenes[split]) for split in ("train", "val", "test")] == [65, 18, 5]
    pairs = {(one.kind, one.split, one.path, one.other_split, one.other_path) for one in result.findings}
    assert {
        ("identical", "train", "noon/02.png", "val", "noon/leak.png"),
        ("identical", "val", "dusk/00.png", "test", "dusk/copy.png"),
        ("identical", "val", "dusk/01.png", "val", "noon/99.png"),
        ("near", "train", "noon/near.bmp", "val", "noon/02.png"),
        ("unreadable", "val", "noon/98.png", None, None),
    } <= pairs
    assert ("label", "val", "noon/99.png") in {pair[:3] for pair in pairs}
    said = summary_text(result)
    assert said.startswith(
        "1 test image is also in the training or validation set (with the same label); 1 validation image is also "
    )
    assert "across train, val and test" in said
    assert "likely wrong val labels" in said
    assert dict(result.exclude)["identical to a validation image"] == ["noon/02.png"]
    write(result, tmp_path)
    assert "Validation labels that are likely wrong" in (tmp_path / "audit.html").read_text()


def test_a_share_of_the_training_images_is_refused_because_an_audit_looks_at_all(place):
    with pytest.raises(UserError, match=r"^data\.train_fraction has no effect on an audit, which checks all images"):
        audited(place / "images", place / "cache", "data.train_fraction=0.5")
