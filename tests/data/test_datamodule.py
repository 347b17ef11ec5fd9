import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torchvision.transforms._presets import ImageClassification

from intel_scenes.data import datamodule, file_digests
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import View
from intel_scenes.data.scenes import fingerprint, read_scenes
from intel_scenes.data.sources import Drawn, Folder, Source, drawn_folder
from intel_scenes.errors import UserError
from tests.data.pixels import crops, pipeline
from tests.small import QUIET

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEW = View(size=24, resize=28, interpolation="bilinear", mean=MEAN, std=STD)
AUGMENTATION = crops(scale=(0.35, 1), ratio=(0.75, 4 / 3), flip=0.5)

Make = Callable[..., SceneDataModule]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes with ten images each to train on and two to test on."""
    return drawn_folder(tmp_path_factory.mktemp("drawn"), num_train=60, num_test=12, size=32, seed=1)


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / "images"))


def module_of(source: Source, cache_dir: Path, *, seed: int = 1, **changes: object) -> SceneDataModule:
    arguments: dict[str, Any] = {
        "train_sizes": [VIEW.size],
        "batch_size": 16,
        "val_fraction": 0.2,
        "split_seed": 0,
        "store_size": 32,
        "cache_dir": cache_dir,
    }
    return SceneDataModule(source, pipeline(VIEW, AUGMENTATION, seed=seed), seed=seed, **arguments | changes)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(root: Path, **changes: Any) -> SceneDataModule:
        data = module_of(Folder(root), tmp_path / "cache", **changes)
        data.setup()
        return data

    return made


def test_a_later_start_reads_the_images_only_to_verify_them(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "CLOCK_SECONDS", -60)  # the images were drawn just now
    first = make(root).splits.fingerprint
    reads, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path), read_bytes(path))[1])
    assert make(root).splits.fingerprint == first
    assert reads == []
    assert make(root, verify=True).splits.fingerprint == first
    assert len(reads) == 72


class Recorder(LightningModule):
    """Keeps what it is shown; its one weight is there for the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.validated: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.trained.setdefault(self.current_epoch, []).append(batch)
        return self.weight * batch[0].mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int) -> None:
        self.validated.setdefault(dataloader_idx, []).append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(data: SceneDataModule, epochs: int = 1) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        **QUIET,
        max_epochs=epochs,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
    trainer.fit(recorder, datamodule=data)
    return recorder


def joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def first(folder: Path, kind: str, place: int = 0) -> Path:
    return sorted((folder / kind).iterdir())[place]


def test_the_splits_have_their_sizes_and_share_no_image(drawn: Path, make: Make) -> None:
    data = make(drawn)
    labels = data.splits.scenes.labels
    assert np.bincount(labels[data.splits.val]).tolist() == [2] * 6
    assert np.bincount(labels[data.splits.train]).tolist() == [8] * 6
    assert np.bincount(labels[data.splits.train_eval]).tolist() == [2] * 6
    assert sorted([*data.splits.train, *data.splits.val]) == list(range(60))
    assert set(data.splits.train_eval) < set(data.splits.train)
    assert data.splits.test.tolist() == list(range(12))
    assert data.splits.classes == ("buildings", "forest", "glacier", "mountain", "sea", "street")


def test_all_training_images_are_evaluated_if_validation_is_as_large(drawn: Path, make: Make) -> None:
    data = make(drawn, val_fraction=0.5)
    assert len(data.splits.val) == 30
    assert np.array_equal(data.splits.train_eval, data.splits.train)


def test_the_splits_depend_on_their_own_seed_alone(drawn: Path, make: Make) -> None:
    data = make(drawn)
    other_run, other_split = make(drawn, seed=2, batch_size=4), make(drawn, split_seed=1)
    assert np.array_equal(other_run.splits.val, data.splits.val)
    assert np.array_equal(other_run.splits.train_eval, data.splits.train_eval)
    assert not np.array_equal(other_split.splits.val, data.splits.val)


def test_a_class_of_two_images_has_one_in_train_and_one_in_val(root: Path, make: Make) -> None:
    for path in sorted((root / "seg_train" / "sea").iterdir())[2:]:
        path.unlink()
    data = make(root, val_fraction=0.1, batch_size=4)
    sea = data.splits.classes.index("sea")
    assert (data.splits.scenes.labels[data.splits.train] == sea).sum() == 1
    assert (data.splits.scenes.labels[data.splits.val] == sea).sum() == 1


def test_a_fraction_that_leaves_a_class_empty_is_a_user_error(root: Path, make: Make) -> None:
    for path in sorted((root / "seg_train" / "sea").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"^data.val_fraction=0.2 leaves the class sea without an image on one side"):
        make(root)


def test_batches_of_resident_images_are_gathered_on_their_device(root: Path, make: Make) -> None:
    data = make(root)
    on_meta = data.on(torch.device("meta"))  # which computes shapes alone, and would refuse a copy back
    batch, ours = on_meta.images.batch(data.splits.train[:3]), data.images.batch(data.splits.train[:3])
    assert (batch.images.device.type, batch.images.shape, batch.labels.device.type) == (
        "meta",
        ours.images.shape,
        "meta",
    )
    assert np.array_equal(batch.indices, data.splits.train[:3])
    assert data.images.values.device.type == "cpu", "the first module keeps its own"


def check_images_against_files(data: SceneDataModule) -> None:
    for scenes, images in ((data.splits.scenes, data.images), (data.splits.test_scenes, data.test_images)):
        batch = images.batch(np.arange(len(scenes)))
        for path, image, label in zip(scenes.paths, batch.images, batch.labels, strict=True):
            with Image.open(scenes.root / path) as expected:
                assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))
            assert path.startswith(f"{data.splits.classes[label]}/")


def test_the_images_are_those_of_the_files(drawn: Path, make: Make) -> None:
    check_images_against_files(make(drawn))


def test_duplicated_test_images_are_reported_and_left_out_of_the_clean_ones(root: Path, make: Make) -> None:
    train, test = root / "seg_train", root / "seg_test"
    shutil.copy(first(train, "sea"), test / "sea" / "same-class.jpg")
    shutil.copy(first(train, "forest"), test / "street" / "other-class.jpg")
    twice = first(test, "glacier")
    shutil.copy(twice, test / "mountain" / "conflict-within-test.jpg")
    shutil.copy(first(test, "buildings"), test / "buildings" / "twice-within-test.jpg")
    data = make(root)
    assert data.splits.test_duplicates == ["sea/same-class.jpg", "street/other-class.jpg"]
    left_out = {
        path for path, clean in zip(data.splits.test_scenes.paths, data.splits.clean_test(), strict=True) if not clean
    }
    assert left_out == {
        "sea/same-class.jpg",
        "street/other-class.jpg",
        f"glacier/{twice.name}",
        "mountain/conflict-within-test.jpg",
    }


def test_all_test_images_of_the_drawn_folder_are_clean(drawn: Path, make: Make) -> None:
    data = make(drawn)
    assert data.splits.test_duplicates == []
    assert data.splits.clean_test().tolist() == [True] * 12


def damage(root: Path, *splits: str) -> list[Path]:
    """One image of nothing and one that breaks off, in each split."""
    damaged = []
    for split in splits:
        nothing, half = first(root / split, "forest"), first(root / split, "sea", 1)
        nothing.write_bytes(b"")
        half.write_bytes(half.read_bytes()[:300])
        damaged += [nothing, half]
    return damaged


@pytest.mark.parametrize("splits", [["seg_train"], ["seg_test"], ["seg_train", "seg_test"]])
def test_the_error_names_all_images_that_cannot_be_decoded(splits: list[str], root: Path, make: Make) -> None:
    damaged = damage(root, *splits)
    with pytest.raises(UserError) as caught:
        make(root)
    sentence = str(caught.value)
    assert [path for path in damaged if str(path) not in sentence] == []
    assert sentence.startswith(f"{len(damaged)} images cannot be decoded: ")
    assert re.search(r": replace or remove them, or set data.on_unreadable=skip to train without them$", sentence)


def test_unreadable_images_are_skipped(root: Path, make: Make) -> None:
    whole = make(root)
    damaged = damage(root, "seg_train", "seg_test")
    data = make(root, on_unreadable="skip")
    assert sorted([*data.splits.train, *data.splits.val]) == list(range(58))
    assert data.splits.test.tolist() == list(range(10))
    for scenes in (data.splits.scenes, data.splits.test_scenes):
        assert set(damaged).isdisjoint(scenes.root / path for path in scenes.paths)
    assert data.splits.fingerprint != whole.splits.fingerprint
    check_images_against_files(data)


def test_skipping_unreadable_images_equals_removing_them(root: Path, make: Make) -> None:
    damaged = damage(root, "seg_train", "seg_test")
    skipped = make(root, on_unreadable="skip")
    for path in damaged:
        path.unlink()
    removed = make(root)
    assert skipped.splits.fingerprint == removed.splits.fingerprint
    assert np.array_equal(skipped.splits.val, removed.splits.val)
    ours, theirs = (data.images.batch(np.arange(58)).images for data in (skipped, removed))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("split", ["seg_train", "seg_test"])
def test_a_class_with_no_image_that_can_be_decoded_is_an_error_also_where_they_are_skipped(
    split: str, root: Path, make: Make
) -> None:
    for path in (root / split / "sea").iterdir():
        path.write_bytes(path.name.encode())
    with pytest.raises(UserError, match="sea"):
        make(root, on_unreadable="skip")


def test_the_fingerprint_does_not_depend_on_the_place_the_seeds_or_the_stored_size(root: Path, make: Make) -> None:
    data = make(root)
    moved = make(root.rename(root.with_name("moved")), seed=3, split_seed=4, store_size=24)
    assert moved.splits.fingerprint == data.splits.fingerprint


@pytest.mark.parametrize(("batch_size", "expected"), [(64, 64), (256, 256), (257, 256), (12_630, 256)])
def test_evaluation_batches_of_huge_training_batches_stay_small(batch_size: int, expected: int) -> None:
    assert datamodule.eval_batch_size(batch_size) == expected


def test_a_full_batch_is_the_whole_training_split_or_its_subset(drawn: Path, make: Make) -> None:
    full, half = make(drawn, batch_size="full"), make(drawn, batch_size="full", train_fraction=0.5)
    assert (full.batch_size, full.num_batches) == (48, 1)
    assert (half.batch_size, half.num_batches) == (24, 1)


def test_a_batch_larger_than_the_training_split_is_an_error(drawn: Path, make: Make) -> None:
    assert make(drawn, batch_size=48).batch_size == 48
    with pytest.raises(UserError) as caught:
        make(drawn, batch_size=49)
    assert (
        str(caught.value)
        == "data.batch_size=49 is larger than the training set of 48 images: lower it, for example to 12"
    )


def test_an_images_pixels_depend_on_seed_and_epoch_and_not_on_its_batch(drawn: Path, make: Make) -> None:
    large = fitted(make(drawn, batch_size=16), epochs=2).trained
    small = fitted(make(drawn, batch_size=3), epochs=2).trained
    assert [len(batches) for batches in (*large.values(), *small.values())] == [3, 3, 16, 16]
    for epoch in (0, 1):
        (images, labels), (others, other_labels) = joined(large[epoch]), joined(small[epoch])
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)
    assert not torch.equal(joined(large[0])[0], joined(large[1])[0])


def test_another_seed_trains_on_other_pixels(drawn: Path, make: Make) -> None:
    one, two = (joined(fitted(make(drawn, seed=seed)).trained[0])[0] for seed in (1, 2))
    assert one.shape == two.shape == (48, 3, 24, 24)
    assert not torch.equal(one, two)


def test_the_global_generators_change_nothing_and_are_left_alone(drawn: Path, make: Make) -> None:
    torch.manual_seed(5)
    one = joined(fitted(make(drawn)).trained[0])[0]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(joined(fitted(make(drawn)).trained[0])[0], one)


def test_neighbouring_images_are_not_cropped_alike(root: Path, make: Make) -> None:
    for number, path in enumerate(sorted((root / "seg_train").rglob("*.jpg"))):
        row = np.linspace(0, 200, 32).astype(np.uint8)  # each image shows where it was cut; one pixel tells them apart
        pixels = np.stack([np.tile(row, (32, 1)), np.tile(row[:, None], (1, 32)), np.full((32, 32), number)], axis=2)
        Image.fromarray(pixels.astype(np.uint8)).save(path, "png")
    images, _ = joined(fitted(make(root)).trained[0])
    shown_positions = {image[:2].numpy().tobytes() for image in images}
    assert len(shown_positions) > 40  # of 48


def test_validation_loaders_are_val_and_train_eval_without_augmentation(drawn: Path, make: Make) -> None:
    data = make(drawn)
    validated = fitted(data).validated
    preset = ImageClassification(crop_size=24, resize_size=28, mean=MEAN, std=STD)
    for number, chosen in enumerate((data.splits.val, data.splits.train_eval)):
        images, labels = joined(validated[number])
        expected = [preset(Image.open(data.splits.scenes.root / data.splits.scenes.paths[index])) for index in chosen]
        assert (images - torch.stack(expected)).abs().max() < 1.01 / 255 / min(STD)  # one level
        assert labels.tolist() == data.splits.scenes.labels[chosen].tolist()


def test_network_inputs_are_float32_in_channels_last_memory(drawn: Path, make: Make) -> None:
    recorder = fitted(make(drawn))
    for images, labels in (*recorder.trained[0], *recorder.validated[0]):
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_yields_every_image_of_a_split_once_in_order(split: str, drawn: Path, make: Make) -> None:
    data = make(drawn, batch_size=1)
    batches = list(data.eval_batches(split))
    assert len(batches) == 3
    chosen, scenes = (
        (data.splits.val, data.splits.scenes) if split == "val" else (data.splits.test, data.splits.test_scenes)
    )
    assert len(chosen) == 12
    assert np.concatenate([batch.indices for batch in batches]).tolist() == chosen.tolist()
    assert torch.cat([batch.labels for batch in batches]).tolist() == scenes.labels[chosen].tolist()


@pytest.mark.parametrize(
    ("batch_size", "most", "expected"),
    [(1, 64, [4, 4, 4]), (2, 64, [6, 6]), (2, 5, [4, 4, 4]), (5, 4, [4, 4, 4]), (12, 4, [12]), ("full", 4, [12])],
)
def test_evaluation_batches_are_larger_than_small_training_batches(
    batch_size: int | str, most: int, expected: list[int], drawn: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datamodule, "EVAL_BATCH_SIZE", most)
    data = make(drawn, batch_size=batch_size)
    recorder = fitted(data)
    for seen in (recorder.validated[0], recorder.validated[1], data.eval_batches("val"), data.eval_batches("test")):
        assert [len(labels) for _, labels, *_ in seen] == expected


def test_excluded_images_are_in_no_split_and_do_not_move_the_others(root: Path, make: Make) -> None:
    whole = make(root)
    paths = np.array(whole.splits.scenes.paths)
    gone = {paths[whole.splits.train[0]], paths[whole.splits.train[7]], paths[whole.splits.val[1]]}
    less = make(root, exclude=gone)
    left = np.array(less.splits.scenes.paths)
    assert set(left) == set(paths) - gone
    assert set(left[less.splits.train]) == set(paths[whole.splits.train]) - gone
    assert set(left[less.splits.val]) == set(paths[whole.splits.val]) - gone
    assert less.splits.fingerprint != whole.splits.fingerprint
    check_images_against_files(less)


def test_excluded_images_must_exist_and_must_not_be_a_whole_class(root: Path, make: Make) -> None:
    with pytest.raises(
        UserError, match=r"^data.exclude lists 1 path without an image in .*, such as sea/none.jpg: write"
    ):
        make(root, exclude={"sea/none.jpg"})
    with pytest.raises(
        UserError, match=r"^data.exclude leaves no image of the class sea in the training or the validation set"
    ):
        make(root, exclude={f"sea/{path.name}" for path in (root / "seg_train" / "sea").iterdir()})


def test_an_unreadable_image_that_is_excluded_is_no_error(root: Path, make: Make) -> None:
    path = sorted((root / "seg_train" / "sea").iterdir())[0]
    path.write_bytes(b"no image")
    assert f"sea/{path.name}" not in make(root, exclude={f"sea/{path.name}"}).splits.scenes.paths


class Linear(LightningModule):
    """A module of one's own, that knows nothing of scenes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3 * VIEW.size**2, 6)
        self.tested: list[Tensor] = []

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        assert batch[0].shape[1:] == (3, VIEW.size, VIEW.size)
        self.tested.append(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_any_lightning_module_trains_and_tests_without_prepared_images(tmp_path: Path) -> None:
    drawn, cache = Drawn(num_train=60, num_test=12, size=32, seed=1), tmp_path / "cache"
    module = Linear()
    before = module.layer.weight.clone()
    trainer = Trainer(**QUIET, max_epochs=1, enable_checkpointing=False, log_every_n_steps=1)
    trainer.fit(module, datamodule=module_of(drawn, cache))
    assert trainer.global_step == 3  # 48 images in batches of 16
    assert not torch.equal(module.layer.weight, before)
    assert sorted(trainer.callback_metrics) == ["val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"]
    trainer.test(module, datamodule=module_of(drawn, cache), verbose=False)
    assert torch.cat(module.tested).tolist() == [label for label in range(6) for _ in range(2)]  # every image once


def test_images_are_read_lazily_and_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = module_of(Folder(root), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    data.prepare_data()
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2
    shutil.rmtree(root)  # what is done a second time would miss it
    data.prepare_data()
    data.setup()
    splits, images = data.splits, data.images
    data.prepare_data()
    data.setup("fit")
    assert data.splits is splits
    assert data.images is images
    features = np.zeros((60, 5), np.float32), np.zeros((12, 5), np.float32)
    for variant in (data.on(torch.device("meta")), data.with_features(*features)):
        stored = variant.images
        variant.prepare_data()
        variant.setup("fit")
        assert variant.images is stored
        assert variant.splits is splits


def test_setup_uses_an_existing_cache_or_fills_it(root: Path, tmp_path: Path) -> None:
    for _ in range(2):
        data = module_of(Folder(root), tmp_path / "cache")
        data.setup()
        check_images_against_files(data)
        caches = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
        assert len(caches) == 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == caches


def test_features_take_the_place_of_the_images_with_their_labels(drawn: Path, make: Make) -> None:
    data = make(drawn)
    rows = np.arange(60, dtype=np.float32)[:, None]
    features = data.with_features(rows, rows[:12])
    recorder = fitted(features)
    values, labels = joined(recorder.trained[0])
    assert labels.tolist() == data.splits.scenes.labels[values[:, 0].numpy().astype(int)].tolist()
    assert set(values[:, 0].tolist()) == set(data.splits.train.tolist())
    assert joined(recorder.validated[0])[0][:, 0].tolist() == data.splits.val.tolist()
    assert data.images.values.ndim == 4, "the first module keeps its own"


@pytest.mark.parametrize(("sizes", "seen"), [([16], [16, 16, 16]), ([16, 24], [16, 16, 24])])
def test_each_training_size_is_used_for_an_equal_part_of_the_epochs(
    sizes: list[int], seen: list[int], drawn: Path, make: Make
) -> None:
    recorder = fitted(make(drawn, train_sizes=sizes), epochs=3)
    assert [{images.shape[-1] for images, _ in batches} for batches in recorder.trained.values()] == [
        {size} for size in seen
    ]
    assert {images.shape[-1] for images, _ in recorder.validated[0]} == {VIEW.size}


def test_several_training_sizes_need_max_epochs(drawn: Path, make: Make) -> None:
    trainer = Trainer(**QUIET, max_epochs=-1, max_steps=4, enable_checkpointing=False, log_every_n_steps=1)
    with pytest.raises(
        UserError, match=r"^train_sizes=\[16, 24\] divide the epochs equally: set max_epochs of the Trainer$"
    ):
        trainer.fit(Recorder(), datamodule=make(drawn, train_sizes=[16, 24]))
    trainer = Trainer(**QUIET, max_epochs=-1, max_steps=8, enable_checkpointing=False, log_every_n_steps=1)
    trainer.fit(Recorder(), datamodule=make(drawn))
    assert trainer.current_epoch == 3


@pytest.fixture
def with_val(root: Path) -> Path:
    """A folder of train, val and test, in which val has two images of each class under the names that train has."""
    for old, new in (("seg_train", "train"), ("seg_test", "test")):
        (root / old).rename(root / new)
    for folder in sorted((root / "train").iterdir()):
        files = sorted(folder.rename(folder.with_name("old")).iterdir())
        for split, of_split in (("val", files[:2]), ("train", files[2:])):
            (root / split / folder.name).mkdir(parents=True)
            for number, file in enumerate(of_split):
                file.rename(root / split / folder.name / f"{number}.jpg")
        folder.with_name("old").rmdir()
    return root


def test_a_val_folder_is_the_validation_split_whatever_the_fraction(with_val: Path, make: Make) -> None:
    data = make(with_val, val_fraction=0.5)
    splits = data.splits
    assert (len(splits.train), len(splits.val), len(splits.train_eval)) == (48, 12, 12)
    assert set(splits.train_eval) < set(splits.train)
    scenes, batch = splits.scenes, data.images.batch(splits.val)
    named = [f"{name}/{number}.jpg" for name in splits.classes for number in (0, 1)]
    assert [scenes.paths[index] for index in splits.val] == named
    for index, image in zip(splits.val, batch.images, strict=True):
        assert scenes.file(index) == with_val / "val" / scenes.paths[index]
        with Image.open(scenes.file(index)) as expected:
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))
    train, val, test = (read_scenes(with_val / split) for split in ("train", "val", "test"))
    assert splits.fingerprint == fingerprint(train, val, test)
    assert [len(images.labels) for images in data.images_by_split.values()] == [48, 12, 12]


def test_an_image_that_is_excluded_from_train_stays_in_val_under_the_same_name(with_val: Path, make: Make) -> None:
    splits = make(with_val, exclude={"sea/1.jpg"}).splits
    assert (len(splits.train), len(splits.val)) == (47, 12)
    assert with_val / "train/sea/1.jpg" not in [splits.scenes.file(index) for index in splits.train]
    assert with_val / "val/sea/1.jpg" in [splits.scenes.file(index) for index in splits.val]


def test_an_unreadable_validation_image_is_named_by_its_split(with_val: Path, make: Make) -> None:
    (with_val / "val/sea/1.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"^1 image cannot be decoded: {with_val}/val/sea/1.jpg \("):
        make(with_val, exclude={"sea/1.jpg"})
    data = make(with_val, on_unreadable="skip")
    assert {split: list(reasons) for split, reasons in data.unreadable.items()} == {
        **{"train": [], "val": ["sea/1.jpg"], "test": []}
    }
    assert (len(data.splits.train), len(data.splits.val)) == (48, 11)
    (with_val / "val/sea/0.jpg").write_bytes(b"no image either")
    with pytest.raises(UserError, match=rf"^no image of the class folder {with_val}/val/sea can be decoded: replace"):
        make(with_val, on_unreadable="skip")


def test_validation_images_duplicated_in_train_are_reported(with_val: Path, make: Make) -> None:
    shutil.copy(with_val / "train/sea/3.jpg", with_val / "val/street/copy.jpg")
    shutil.copy(with_val / "val/forest/0.jpg", with_val / "test/forest/leak.jpg")
    splits = make(with_val).splits
    assert splits.val_duplicates == ["street/copy.jpg"]
    assert splits.test_duplicates == ["forest/leak.jpg"]


def test_images_of_a_cut_test_split_cannot_be_excluded(drawn: Path, make: Make) -> None:
    data = make(drawn / "seg_train", test_fraction=0.2, batch_size=8)
    splits = data.splits
    assert (len(splits.scenes), len(splits.test)) == (48, 12)
    assert not splits.has_own_val
    assert set(splits.test_scenes.paths).isdisjoint(splits.scenes.paths)
    check_images_against_files(data)
    gone = splits.test_scenes.paths[0]
    with pytest.raises(UserError, match=rf"^data.exclude lists {gone}, which was split off as a test image; "):
        make(drawn / "seg_train", test_fraction=0.2, exclude={gone})


def test_a_training_subset_does_not_change_the_other_splits(drawn: Path, make: Make) -> None:
    whole, half = make(drawn), make(drawn, train_fraction=0.5)  # of 8 + 2 images of each class
    assert whole.splits.num_whole is None
    assert (len(half.splits.train), half.splits.num_whole, half.num_batches) == (24, 48, 1)
    assert set(half.splits.train) < set(whole.splits.train)
    assert half.splits.val.tolist() == whole.splits.val.tolist()
    assert half.splits.fingerprint == whole.splits.fingerprint
    assert len(half.splits.train_eval) == len(half.splits.val) == 12
    assert set(half.splits.train_eval) < set(half.splits.train)
    assert make(drawn, train_fraction=0.5, subset_seed=1).splits.train.tolist() != half.splits.train.tolist()


def test_a_training_subset_smaller_than_validation_is_evaluated_whole(drawn: Path, make: Make) -> None:
    splits = make(drawn, train_fraction=0.125, batch_size=4).splits
    assert len(splits.train) == 6
    assert splits.train_eval.tolist() == splits.train.tolist()


def test_a_training_subset_smaller_than_a_batch_becomes_one_batch(drawn: Path, make: Make) -> None:
    half = make(drawn, batch_size=32, train_fraction=0.5)  # of 48
    assert (half.batch_size, half.num_batches, len(half.splits.train)) == (24, 1, 24)
    with pytest.raises(
        UserError,
        match=r"^data\.batch_size=49 is larger than the training set of 24 images: lower it, for example to 6$",
    ):
        make(drawn, batch_size=49, train_fraction=0.5)
