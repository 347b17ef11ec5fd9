import csv
import errno
import itertools
import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
import torchvision
import yaml
from lightning.pytorch import Callback
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

from intel_scenes import files, record
from intel_scenes.data.sources import drawn_folder
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder

NEVER_COMPARED = {
    *("started", "ended", "fit_seconds", "images_per_second", "peak_memory_bytes"),
    *("device", "versions", "package_version", "git_commit", "git_dirty"),
}
TWO_DEVICES = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
OPTIMIZERS, SCHEDULERS = (
    sorted(path.stem for path in (conf_folder() / group).glob("*.yaml")) for group in ("optim", "scheduler")
)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def without_timing(path):
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows(path)]


def test_the_record_holds_the_files_and_keys_of_the_contract(run, tmp_path):
    summary = run("optim=adamw", "scheduler=onecycle")
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "overrides.yaml", "summary.json", "history.csv", "predictions.csv", "checkpoints"),
        *("curves.png", "confusion.png", "mistakes.png"),
    }
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]
    assert record.Summary.read(folder) == summary
    assert summary.status == "completed"
    known_later = {"study", "error", "traceback", "weights", "git_commit", "git_dirty", "model", "optim", "scheduler"}
    known_later |= {"resume_digest", "compile_seconds", "features_seconds", "budget_minutes", "budget_digest"}
    known_later |= {"weights_digest", "transform_input", "test_fraction", "model_source"}
    assert {key for key, value in vars(summary).items() if value is None} <= known_later | {"recipe"}
    assert (summary.num_train, summary.num_val, summary.num_test) == (108, 12, 30)
    assert yaml.safe_load((folder / "config.yaml").read_text())["optim"]["_target_"] == "torch.optim.AdamW"
    assert "optim=adamw" in yaml.safe_load((folder / "overrides.yaml").read_text())


def test_the_history_counts_epochs_and_steps_and_shows_the_last_rate_of_each_epoch(run, tmp_path):
    run("scheduler=step", "scheduler.factory.step_size=1", "epochs=3", "data.batch_size=20", "optim.lr=0.5")
    history = rows(tmp_path / "run" / record.HISTORY)
    assert tuple(history[0]) == record.HISTORY_COLUMNS
    assert [row["epoch"] for row in history] == ["0", "1", "2"]
    assert [row["step"] for row in history] == ["5", "10", "15"]  # 108 training images make five batches of 20
    assert [float(row["lr"]) for row in history] == pytest.approx([0.5, 0.05, 0.005])


def test_results_follow_from_the_predictions_and_the_best_epoch(run, tmp_path):
    summary = run("optim=adamw", "epochs=4", "data.batch_size=20")
    predictions = rows(tmp_path / "run" / record.PREDICTIONS)
    test = [row for row in predictions if row["split"] == "test"]
    labels = [int(row["label"]) for row in test]
    probabilities = np.array([[float(row[name]) for name in summary.classes] for row in test])
    for row in predictions:
        assert summary.classes.index(row["path"].split("/")[0]) == int(row["label"])
    assert summary.test_accuracy == accuracy_score(labels, [int(row["predicted"]) for row in test])
    assert summary.test_loss == pytest.approx(log_loss(labels, probabilities, labels=range(6)))
    history = rows(tmp_path / "run" / record.HISTORY)
    accuracies = [float(row["val_accuracy"]) for row in history]
    assert len(set(accuracies)) > 1
    assert summary.val_accuracy == max(accuracies)
    assert summary.best_epoch == accuracies.index(max(accuracies))
    val = [row for row in predictions if row["split"] == "val"]
    right = sum(row["label"] == row["predicted"] for row in val)
    assert right / len(val) == pytest.approx(summary.val_accuracy, abs=1e-7)


def test_the_best_checkpoint_holds_the_weights_that_made_the_predictions(run, tmp_path, cache):
    run("model=mobilenet_v3_small", "epochs=2", "data.image_size=32", "data.crop_fraction=1.0", "data.store_size=32")
    folder = tmp_path / "run"
    network = torchvision.models.mobilenet_v3_small(num_classes=6).eval()
    state = torch.load(folder / record.BEST, weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in state.items()})
    summary = record.Summary.read(folder)
    first = next(row for row in rows(folder / record.PREDICTIONS) if row["split"] == "test")
    image = next(cache.glob(f"drawn-120-30-32px*/seg_test/{first['path']}"))
    pixels = torchvision.transforms.functional.to_tensor(Image.open(image))
    mean, std = summary.normalization.mean, summary.normalization.std
    images = torchvision.transforms.functional.normalize(pixels, mean, std)[None]
    expected = network(images).softmax(1)[0].tolist()
    assert [float(first[name]) for name in summary.classes] == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(run, tmp_path):
    arguments = ("optim=adamw", "recipe.ema_decay=0.9", "recipe.label_smoothing=0.1", "epochs=2")
    summaries = {
        name: run(*arguments, f"seed={seed}", folder=tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    a, b, c = (tmp_path / name for name in "abc")
    assert without_timing(a / record.HISTORY) == without_timing(b / record.HISTORY)
    assert without_timing(a / record.HISTORY) != without_timing(c / record.HISTORY)
    assert (a / record.PREDICTIONS).read_bytes() == (b / record.PREDICTIONS).read_bytes()
    compared = set(record.SUMMARY_KEYS) - NEVER_COMPARED
    assert [getattr(summaries["a"], key) for key in compared] == [getattr(summaries["b"], key) for key in compared]
    assert summaries["a"].configuration_digest == summaries["c"].configuration_digest
    assert summaries["a"].config_digest != summaries["c"].config_digest
    assert summaries["a"].split_digest == summaries["c"].split_digest
    assert summaries["a"].order_digest != summaries["c"].order_digest


def test_two_optimizers_see_the_same_batches_from_the_same_weights(run, tmp_path):
    paired = ("data_fingerprint", "split_digest", "order_digest", "init_digest")
    a, b = (run(f"optim={optim}", folder=tmp_path / optim) for optim in ("sgd", "adam"))
    assert [getattr(a, key) for key in paired] == [getattr(b, key) for key in paired]


def test_the_fifth_run_of_a_process_equals_the_first(run, tmp_path):
    run("model=mobilenet_v3_small", "epochs=2", folder=tmp_path / "first")
    for number, other in enumerate(("optim=adam", "scheduler=plateau", "recipe.ema_decay=0.5")):
        run(other, folder=tmp_path / f"other{number}")
    run("model=mobilenet_v3_small", "epochs=2", folder=tmp_path / "fifth")
    assert without_timing(tmp_path / "first" / record.HISTORY) == without_timing(tmp_path / "fifth" / record.HISTORY)


def test_a_complete_run_is_left_as_it_is(run, tmp_path):
    first = run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert run() == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_what_does_not_change_the_result_does_not_make_another_run(run):
    first = run()
    assert run("keep_last=true", "logger=csv", "trainer=auto") == first


def test_a_folder_of_another_configuration_is_refused_by_what_differs(run, tmp_path):
    run()
    with pytest.raises(
        UserError, match=r"holds a run of another configuration: optim\.lr \(0\.0003 there, 0\.2 here\)"
    ):
        run("optim.lr=0.2")


def test_a_folder_of_other_data_is_refused(run, tmp_path):
    data = drawn_folder(tmp_path, num_train=120, num_test=30, size=40, seed=5)
    run("data=folder", f"data.root={data}")
    shutil.copy(next(data.glob("seg_train/sea/*")), next(data.glob("seg_train/forest/*")))
    with pytest.raises(UserError, match="another configuration: the images"):
        run("data=folder", f"data.root={data}")


@pytest.mark.parametrize("content", ["[", "- a list", None])
def test_a_folder_whose_configuration_is_damaged_is_refused(run, tmp_path, content):
    run("epochs=1")
    path = tmp_path / "run" / record.CONFIG
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(
        UserError, match=r"config\.yaml (cannot be read|is not a (valid )?configuration).*: move the folder away$"
    ):
        run("epochs=3")


def test_a_full_disk_at_the_start_gives_one_sentence(run, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(UserError, match=r"^no space left for .*: free some space, or set hydra\.run\.dir=FOLDER$"):
        run()
    assert not list((tmp_path / "run").iterdir())


def test_a_loss_that_is_not_finite_ends_the_run_as_failed_and_names_the_step(run, tmp_path):
    with pytest.raises(UserError, match="not finite at step 1 "):
        run("optim.lr=1e30", "scheduler=constant")
    summary = json.loads((tmp_path / "run" / record.SUMMARY).read_text())
    assert summary["status"] == "failed"
    assert "not finite at step 1 (epoch 1)" in summary["error"]
    assert "FiniteLoss" in summary["traceback"] or "on_train_batch_end" in summary["traceback"]


def test_a_failed_run_is_moved_aside_if_its_cause_was_fixed(run, tmp_path):
    with pytest.raises(UserError, match="not finite"):
        run("optim.lr=1e30", "scheduler=constant")
    assert run("optim.lr=0.01", "scheduler=constant").status == "completed"
    (aside,) = (tmp_path / ".replaced").iterdir()
    assert json.loads((aside / record.SUMMARY).read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["epochs=0"], "epochs=0 must be a whole number of at least 1"),
        (["optim.lr=-1"], "optim.lr=-1 must be a number above 0"),
        (["data.val_fraction=1"], "data.val_fraction=1 must be a number from 0 to 1"),
        (["data.batch_size=500"], "data.batch_size=500 is larger than the training set of 108 images"),
        (["+optim.nesterof=true"], "nesterof"),
        (["optim=sgd", "+optim.amsgrad=true"], "amsgrad"),
        (["scheduler=warmup_cosine", "scheduler.factory.lr_lambda.warmup_fraction=2"], "warmup_fraction=2"),
        (["augment.scale=[0.9,0.1]"], "augment.scale=[0.9, 0.1] and augment.ratio="),
        (["+augment.mixup=1"], "mixup"),
        (["scheduler.interval=epoch"], "scheduler.interval=epoch does not fit this schedule, which counts steps"),
        (["+trainer.limit_train_batches=0"], "trainer.limit_train_batches=0 must be a whole number of at least 1"),
        (["+trainer.limit_train_batches=null"], "trainer.limit_train_batches=null must be a number from"),
        (["scheduler=step", "scheduler.factory.step_size=0"], "scheduler.factory.step_size=0 must be a number above 0"),
        (
            ["scheduler=exponential", "scheduler.factory.gamma=-1"],
            "scheduler.factory.gamma=-1 must be a number above 0",
        ),
        (["scheduler=linear", "scheduler.factory.end_factor=1.5"], "end_factor=1.5 must be a number from 0 to 1"),
        (
            ["scheduler=power", "scheduler.factory.power=-1"],
            "factory.power=-1 must be a number from 0 to inf",
        ),
        (
            ["++trainer.limit_train_batches=0.1"],
            "trainer.limit_train_batches=0.1 of 3 batches is less than one batch: raise it, or set a whole number of "
            "batches, such as 1",
        ),
        *(
            (
                [f"+trainer.strategy={strategy}", "trainer.devices=2"],
                f"trainer.strategy={strategy} trains in processes that cannot return the record of the run: "
                "set trainer.strategy=ddp instead",
            )
            for strategy in ("ddp_spawn", "ddp_notebook", "ddp_fork_find_unused_parameters_true")
        ),
        (
            ["data.batch_size=1", "model=resnet18"],
            "resnet18 cannot train on one image of 16 x 16 pixels per step and device (Expected more than 1 value",
        ),
        (
            [*TWO_DEVICES, "data.batch_size=2", "model=resnet18"],
            "set data.batch_size to at least two per device",
        ),
        (
            [*TWO_DEVICES, "trainer.devices=16"],
            "12 validation images are fewer than the 16 devices: set trainer.devices=12 or lower, or raise "
            "data.val_fraction",
        ),
        (
            [*TWO_DEVICES, "trainer.devices=12", "data.batch_size=11"],
            "data.batch_size=11 is fewer images than the 12 devices: raise it, or set trainer.devices=11 or lower",
        ),
        (
            [*TWO_DEVICES, "++trainer.sync_batchnorm=true"],
            "trainer.sync_batchnorm=true needs GPUs, because torch cannot do it on a CPU: leave it out",
        ),
        ([*TWO_DEVICES, "noise_scale=4"], "noise_scale is for one device only: leave it out, or set trainer.devices=1"),
        (["noise_scale=-1"], "noise_scale=-1 must be a whole number of at least 0"),
        (["num_steps=3"], "num_steps=3 is set by the run itself"),
        (["data.device_resident=true"], "data.device_resident=true has no effect on a CPU: leave it at auto"),
        (["trainer.precision=bf17"], "precision=bf17 must be one of"),
        (["trainer.precision=64-true"], "precision=64-true must be one of"),
        (["+trainer.devises=2"], "devises"),
        (["trainer.accelerator=tpu"], "trainer: "),
        pytest.param(
            ["trainer.accelerator=gpu"],
            "trainer.accelerator=gpu, but there is no GPU: set trainer=auto, which then uses the CPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["+trainer.max_epochs=3"], "trainer.max_epochs is managed by intel_scenes"),
        (["model.name=resnet35"], "resnet34"),
        (["model=mobilenet_v3_small", "model.weights=IMAGENET1K_V9"], "IMAGENET1K_V1"),
        (["model.weights=nothing.pth"], "nothing.pth"),
        (["model=torchvision", "model.name=inception_v3", "model.weights=null"], "inception_v3 cannot train on images"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(run, tmp_path, overrides, sentence):
    with pytest.raises(UserError) as caught:
        run(*overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / record.SUMMARY).exists()
    assert not list((tmp_path / "run").glob("*"))


@pytest.mark.parametrize(("optim", "scheduler"), list(zip(itertools.cycle(OPTIMIZERS), SCHEDULERS)))
def test_every_optimizer_and_every_scheduler_completes_a_run(run, optim, scheduler):
    summary = run(f"optim={optim}", f"scheduler={scheduler}", "epochs=2", "data.batch_size=54")
    assert summary.status == "completed"
    assert math.isfinite(summary.test_loss)


def test_real_images_train_through_all_layers(run, real_data):
    summary = run(
        "data=intel", f"data.root={real_data}", "model=resnet18", "epochs=1", "++trainer.limit_train_batches=4"
    )
    assert summary.classes == ("buildings", "forest", "glacier", "mountain", "sea", "street")
    assert summary.num_train + summary.num_val == 14034
    # Known of the data set: all three are in train under another label.
    assert summary.test_duplicates == ("buildings/20805.jpg", "glacier/21469.jpg", "street/21170.jpg")


def test_a_run_without_listed_images_says_so_by_its_data(run, cache, tmp_path):
    whole = run(folder=tmp_path / "whole")
    predicted = rows(tmp_path / "whole/predictions.csv")
    listed = sorted(line["path"] for line in predicted if line["split"] == "val")[::8][:2]  # of two classes
    (tmp_path / "exclude.txt").write_text(f"# not clear\n\nseg_train/{listed[0]}\n{listed[1]}\n")
    less = run(f"data.exclude={tmp_path / 'exclude.txt'}", folder=tmp_path / "less")
    assert less.num_val == whole.num_val - 2
    assert less.num_train == whole.num_train
    assert less.data_fingerprint != whole.data_fingerprint
    with pytest.raises(UserError, match=r"^data.exclude=/nowhere cannot be read"):
        run("data.exclude=/nowhere", folder=tmp_path / "none")


def test_a_run_whose_record_was_removed_starts_again(run, tmp_path):
    first = run("keep_last=true")
    (tmp_path / "run" / record.SUMMARY).unlink()
    again = run("keep_last=true")
    assert (again.status, again.val_loss) == ("completed", first.val_loss)


def test_a_batch_of_one_image_is_enough_without_a_batch_norm_on_single_values(run, tmp_path):
    few = ("data.batch_size=1", "model=resnet18", "++trainer.limit_train_batches=2", "epochs=1")
    assert run(*few, "recipe.trains_norms=false").status == "completed"
    # At 64 px each channel has four values left.
    assert run(*few, "data.image_size=64", folder=tmp_path / "large").status == "completed"


def damaged(path, how):
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[: len(content) // 2], "empty": b"", "random": os.urandom(1000), "flipped": flipped(content)}[
            how
        ]
    )


def flipped(content):
    """Return a checkpoint with one other bit, in the middle of its tensors."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def interrupted(folder):
    """Turn a complete run into one that was killed after its last epoch."""
    summary = json.loads((folder / record.SUMMARY).read_text())
    (folder / record.SUMMARY).write_text(json.dumps(summary | {"status": "interrupted"}))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (record.LAST, "cut"),
        (record.LAST, "empty"),
        (record.LAST, "random"),
        (record.BEST, "cut"),
        (record.LAST, "flipped"),
    ],
)
def test_a_run_with_a_corrupt_checkpoint_starts_again_and_keeps_the_file(run, tmp_path, caplog, name, how):
    few = ("model=resnet9_x0_5", "data.batch_size=54", "keep_last=true", "epochs=1")
    first = run(*few)
    path = tmp_path / "run" / name
    damaged(path, how)
    kept = path.read_bytes()
    interrupted(tmp_path / "run")
    again = run(*few)
    assert (again.status, again.val_loss, again.best_epoch) == ("completed", first.val_loss, 0)
    message = f"{path} is corrupt; moved to {path.name}.damaged, and the run starts again from its first epoch"
    assert message in caplog.messages
    assert path.with_name(f"{path.name}.damaged").read_bytes() == kept
    assert [row["epoch"] for row in rows(tmp_path / "run" / record.HISTORY)] == ["0"]


def test_a_run_without_its_best_checkpoint_starts_again(run, tmp_path, caplog):
    few = ("model=resnet9_x0_5", "data.batch_size=54", "keep_last=true", "epochs=1")
    first = run(*few)
    (tmp_path / "run" / record.BEST).unlink()
    interrupted(tmp_path / "run")
    assert run(*few).val_loss == first.val_loss
    assert f"{tmp_path / 'run' / record.BEST} is missing; the run starts again from its first epoch" in caplog.messages
    assert not any("corrupt" in message for message in caplog.messages)


def test_an_unreadable_best_checkpoint_at_the_end_of_a_run_gives_one_sentence(run, tmp_path):
    class Damages(Callback):
        def on_fit_end(self, trainer, module):
            trainer.strategy.checkpoint_io.wait()
            damaged(tmp_path / "run" / record.BEST, "cut")

    with pytest.raises(UserError, match=r"^.*/best\.ckpt is missing or corrupt \(BadZipFile\): remove the folder "):
        run("model=resnet9_x0_5", "epochs=1", callbacks=[Damages()])
    summary = json.loads((tmp_path / "run" / record.SUMMARY).read_text())
    assert summary["status"] == "failed"


def test_a_complete_run_is_recognized_without_its_devices(run):
    summary = run("epochs=1", "trainer.precision=32")
    assert run("epochs=1", "trainer.precision=32", "trainer.accelerator=gpu") == summary
