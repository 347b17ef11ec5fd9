"""One run on several devices against the same run on one, with Gloo processes on the CPU.

`python -m pytest -n0 -m slow -rP tests/training/test_devices.py` prints the differences in docs/several-devices.md.
"""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from sklearn.metrics import log_loss

from intel_scenes import record
from intel_scenes.errors import Refused
from intel_scenes.record import Predictions, Status, Summary
from tests.plain_network import PlainNetwork
from tests.process import ranks
from tests.small import SMALL

IMAGES = ("data=synthetic", "data.num_train=127", "data.num_test=13", "data.store_size=40", "data.val_fraction=0.116")
PLAIN = ("model=custom", "model._target_=tests.plain_network.PlainNetwork")
OPTIONS = ("recipe=plain", "epochs=3", "data.batch_size=13", "keep_last=true", "optim=sgd_plain", "lr_scale=10")
TWO_DEVICES = ("trainer=ddp", "trainer.devices=2")
ENDS_ON_SECOND = """
import os
from lightning.pytorch import Callback
from intel_scenes import cli, train
from intel_scenes.errors import UserError
from intel_scenes.training import run as experiment


class Ends(Callback):
    def on_train_batch_start(self, trainer, *others):
        if trainer.global_rank == 1 and trainer.current_epoch == 1:
            END


run = experiment.run
experiment.run = lambda *arguments, **options: run(*arguments, **options, callbacks=[Ends()])
cli.start("train", train.train, can_sweep=True)
"""
SEVERAL = """
import json
from dataclasses import replace
from pathlib import Path
from intel_scenes.record import Origin
from intel_scenes.training.claim import Place
from intel_scenes.training.ranks import as_started, joined
from intel_scenes.training.run import run
from tests.small import asked

rows = {name: asked(*row) for name, row in json.loads(Path("rows.json").read_text()).items()}
rows = {name: replace(config, trainer=as_started(config.trainer, ())) for name, config in rows.items()}
with joined(rows["BatchNorm"].trainer, threads=1) as group:
    for name, config in rows.items():
        run(config, Place(Path(name)), Origin(()), ranks=group)
"""
FAILS, DIES = 'raise UserError("the second process cannot go on: mend it")', "os.kill(os.getpid(), 9)"
ROWS = {
    "plain SGD": (),
    "AdamW, eps=1e-3": ("optim=adamw", "++optim.eps=1e-3"),
    "EMA": ("recipe.ema_decay=0.9",),
    "head first": ("recipe.head_first=true",),
    "mixup and CutMix": ("recipe.mixup=0.2", "recipe.cutmix=1"),
    "plateau": ("scheduler=plateau", "scheduler.factory.patience=0"),
    "progressive sizes": ("recipe.train_size=[24,32]",),
    "class weights": ("recipe.class_weight=1",),
}
Start = Callable[..., list]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(7)
    torch.save(PlainNetwork(6).state_dict(), tmp_path / "weights.pth")
    return f"model.weights={tmp_path / 'weights.pth'}"


@pytest.fixture
def start(cache: Path, tmp_path: Path) -> Start:
    """`start(3, *overrides)` runs three processes, each in a folder of its own: the first in `tmp_path / "rank0"`."""

    def processes(number: int, *overrides: str, module: str = "intel_scenes.train", by: str = "torchrun") -> list:
        folders = [tmp_path / f"rank{rank}" for rank in range(number)]
        for folder in folders:
            folder.mkdir(exist_ok=True)
            (folder / "ends.py").write_text(ENDS_ON_SECOND.replace("END", DIES if module == "dies" else FAILS))
        module = "ends" if module in ("dies", "fails") else module
        arguments = (*IMAGES, *SMALL, *PLAIN, *OPTIONS, *overrides, "hydra.run.dir=run")
        environment = os.environ | {"INTEL_SCENES_CACHE": str(cache)}
        return ranks(module, *arguments, cwds=folders, env=environment, by=by)

    return processes


@pytest.fixture
def alone(run_in: Callable[..., Summary], tmp_path: Path) -> Callable[..., Summary]:
    """The same run in one process, in `tmp_path / "alone"` unless said otherwise."""
    return lambda *overrides, folder=tmp_path / "alone", **options: run_in(
        folder, *IMAGES, *PLAIN, *OPTIONS, *overrides, **options
    )


def fewer_of_a_class(cache: Path, tmp_path: Path) -> str:
    from intel_scenes.training.build import build_data
    from tests.small import asked

    splits = build_data(asked(*IMAGES, *SMALL, f"data.cache_dir={cache}")).splits
    paths = [splits.scenes.paths[index] for index in splits.train]
    streets = [path for path in paths if path.startswith("street/")]
    (tmp_path / "exclude.txt").write_text("\n".join(streets[:8]))
    return f"data.exclude={tmp_path / 'exclude.txt'}"


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].float() - other[name].float()).abs().max().item() for name in one)


def last(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / record.LAST, weights_only=True)
    assert checkpoint["epoch"] == 2
    return {name.removeprefix("network."): tensor for name, tensor in checkpoint["state_dict"].items()}


def summary_of(folder: Path) -> Summary:
    summary = Summary.read(folder)
    assert summary is not None
    return summary


def test_three_processes_train_the_weights_of_one_and_evaluate_each_image_once(
    start: Start, alone: Callable[..., Summary], weights: str, cache: Path, tmp_path: Path
) -> None:
    """Batches of 13 images, 13 validation and 13 test images, of which a padding sampler would count 15."""
    row = (weights, "recipe.class_weight=1", fewer_of_a_class(cache, tmp_path))
    done = start(3, *row)
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    summary, one = summary_of(tmp_path / "rank0/run"), alone(*row)
    assert (summary.num_val, summary.num_test) == (13, 13)
    initial = torch.load(tmp_path / "weights.pth", weights_only=True)
    trained, expected = last(tmp_path / "rank0/run"), last(tmp_path / "alone")
    assert difference(initial, expected) > 1e-2
    assert difference(trained, expected) < 1e-5
    read = Predictions.read(tmp_path / "rank0/run", "val")
    with (tmp_path / "rank0/run" / record.HISTORY).open() as file:
        best = list(csv.DictReader(file))[summary.best_epoch or 0]
    assert float(best["val_loss"]) == pytest.approx(log_loss(read.labels, read.probabilities), abs=1e-5)
    assert float(best["val_accuracy"]) == pytest.approx((read.labels == read.predicted).mean(), abs=1e-6)
    assert summary.test_accuracy == one.test_accuracy
    assert summary.config_digest != one.config_digest

    # A second start: only the first process has the folder, and the others learn from it that the run is complete.
    assert not (tmp_path / "rank1/run").exists()
    again = start(3, *row)
    assert [one.returncode for one in again] == [0, 0, 0], [one.stderr for one in again]
    assert "is complete" in again[0].stderr
    assert again[1].stdout == again[1].stderr == ""


def test_a_run_whose_process_was_killed_goes_on_with_another_number_of_them(
    start: Start, alone: Callable[..., Summary], weights: str, tmp_path: Path
) -> None:
    """Begun by srun with two, resumed by torchrun with three, of which the first alone can read the folder."""
    mixed = (weights, "recipe.mixup=0.2", "recipe.cutmix=1")
    first, _ = start(2, *mixed, "trainer=ddp", module="dies", by="srun")
    assert first.returncode == 1
    assert first.stderr.splitlines()[-1].startswith("another process of the run has ended: see its message")
    assert "Traceback" not in first.stderr
    begun = summary_of(tmp_path / "rank0/run")
    assert begun.status is Status.INTERRUPTED
    done = start(3, *mixed)
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert "resuming from" in done[0].stderr
    resumed, one = summary_of(tmp_path / "rank0/run"), alone(*mixed)
    assert resumed.status is Status.COMPLETED
    assert len({begun.config_digest, resumed.config_digest, one.config_digest}) == 3
    assert begun.resume_digest == resumed.resume_digest == one.resume_digest
    assert difference(last(tmp_path / "rank0/run"), last(tmp_path / "alone")) < 1e-5


def test_the_number_of_devices_of_a_run_with_batch_norms_cannot_change(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    class Stops(Callback):
        def on_train_epoch_start(self, trainer: object, *_: object) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("epochs=2", callbacks=[Stops()])
    assert summary_of(tmp_path / "run").resume_digest is None
    with pytest.raises(Refused) as refused:
        run("epochs=2", *TWO_DEVICES)
    assert str(refused.value) == (
        f"{tmp_path / 'run'} holds a run of another configuration: trainer.devices (1 there, 2 here), trainer.strategy "
        "(nothing there, ddp here) (BatchNorm normalizes the share of each device, so a run cannot change their "
        "number); set hydra.run.dir=FOLDER, or move the old run away"
    )


def test_the_failure_of_a_second_process_is_recorded_in_its_own_words(
    start: Start, weights: str, tmp_path: Path
) -> None:
    first, second = start(2, weights, module="fails")
    assert (first.returncode, second.returncode) == (1, 1)
    assert second.stderr == "the second process cannot go on: mend it\n"
    assert "mend it" not in first.stderr
    assert "Traceback" not in first.stderr
    summary = summary_of(tmp_path / "rank0/run")
    assert (summary.status, summary.error) == (Status.FAILED, "the second process cannot go on: mend it")
    assert "on_train_batch_start" in str(summary.traceback)


def test_an_error_of_all_processes_is_reported_once(start: Start, weights: str, tmp_path: Path) -> None:
    first, second = start(2, weights, "data.batch_size=1000")
    assert (first.returncode, second.returncode) == (1, 1)
    assert "data.batch_size=1000 is larger than the training set" in first.stderr
    assert second.stderr == ""


@pytest.fixture(scope="module")
def references(
    run_in: Callable[..., Summary], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[list[str], dict[str, torch.Tensor]]]:
    """Overrides and weights of each row of the table, trained by one process."""
    place = tmp_path_factory.mktemp("rows")
    torch.manual_seed(7)
    torch.save(PlainNetwork(6).state_dict(), place / "weights.pth")
    plain = (*PLAIN, f"model.weights={place / 'weights.pth'}")
    rows = {name: [*plain, *row] for name, row in ROWS.items()} | {"BatchNorm": ["model=resnet9_x0_5", "lr_scale=1"]}
    rows["class weights"].append(fewer_of_a_class(cache, place))
    found = {}
    for name, row in rows.items():
        overrides = [*IMAGES, *OPTIONS, *row]
        run_in(place / name, *overrides)
        found[name] = [*SMALL, *overrides], last(place / name)
        if name != "BatchNorm":
            assert difference(torch.load(place / "weights.pth", weights_only=True), found[name][1]) > 1e-2
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_weights_after_three_epochs_are_those_of_one_process(
    number: int, references: dict[str, tuple[list[str], dict[str, torch.Tensor]]], cache: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / f"rank{rank}" for rank in range(number)]
    for folder in folders:
        folder.mkdir()
        (folder / "several.py").write_text(SEVERAL)
        (folder / "rows.json").write_text(json.dumps({name: row for name, (row, _) in references.items()}))
    done = ranks("several", cwds=folders, env=os.environ | {"INTEL_SCENES_CACHE": str(cache)}, timeout=1200)
    assert [one.returncode for one in done] == [0] * number, [one.stderr for one in done]
    found = {name: difference(last(tmp_path / "rank0" / name), weights) for name, (_, weights) in references.items()}
    print(*(f"{number} processes, {name}: {value:.1e}" for name, value in found.items()), sep="\n")
    assert found.pop("BatchNorm") > 1e-4
    assert max(found.values()) < 1e-5
