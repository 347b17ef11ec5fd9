"""The commands as a user runs them: a process of its own in an empty folder."""

import csv
import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from intel_scenes import cli
from intel_scenes.data.sources import drawn_folder
from intel_scenes.record import Status, Summary
from tests.process import NO_NETWORK, forked, program, python, wait_until
from tests.small import DRAWN, SMALL


@pytest.fixture
def environment(cache, tmp_path):
    kept = {key: value for key, value in os.environ.items() if key != "INTEL_SCENES_DATA"}
    home = tmp_path / "home"
    home.mkdir()
    return kept | NO_NETWORK | {"INTEL_SCENES_CACHE": str(cache), "HOME": str(home), "PYTHONWARNINGS": "default"}


@pytest.fixture
def train(environment, tmp_path):
    """Runs the command in an empty folder; returns the finished process.

    One that is fresh imports torch itself. `meanwhile` gets the number of one that is not.
    """
    place = tmp_path / "empty"
    place.mkdir()

    def command(*arguments, fresh=False, meanwhile=lambda pid: None):
        if fresh:
            return python("-m", "intel_scenes.train", *arguments, cwd=place, env=environment)
        return forked("intel_scenes.train", *arguments, cwd=place, env=environment, meanwhile=meanwhile)

    command.place = place
    return command


def run_folder(place):
    (folder,) = (place / "outputs").iterdir()
    return folder


def assert_one_sentence(done, *parts):
    """Exit status 1, and on stderr one line that says it all, below whatever bars and notices came before."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.rstrip().splitlines()[-1]
    for part in parts:
        assert part in line
    assert not done.stdout.strip()


BAR, SCREEN = "trainer.enable_progress_bar=true", {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}


def in_terminal(command, environment, place):
    """What a command shows in a terminal of 80 columns, with its carriage returns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(command, cwd=place, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed: it is over
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--help"], 0, "optim: adam, adamw, nadam, rmsprop, sgd"),
        (["--cfg", "job"], 0, "_target_: torch.optim.AdamW"),
        (["--version"], 0, f"intel_scenes {version('intel-scenes')}\n"),
        (["optmi.lr=1"], 1, "there is no key optmi.lr (did you mean optim.lr?); --help lists all keys"),
        (["optm=adam"], 1, "there is no key optm (did you mean optim?)"),
        (["optim.learning_rate=0.1"], 1, "there is no key optim.learning_rate (did you mean optim.lr?)"),
        (["batch_size=64"], 1, "there is no key batch_size (did you mean data.batch_size?)"),
        (["recipe.focal_loss=true"], 1, "there is no key recipe.focal_loss: recipe takes class_weight, cutmix, "),
        (["+recipe.focal_loss=true"], 1, "there is no key recipe.focal_loss: recipe takes class_weight, cutmix, "),
        (["+model.depth=3"], 1, "there is no key model.depth: model takes args, library, name, weights"),
        (["+data.valid_fraction=0.25"], 1, "there is no key data.valid_fraction (did you mean data.val_fraction"),
        (["data.num_train=9"], 1, "data.num_train is a key of data=synthetic only (remove it with ~data.num_train)"),
        (["+data.num_train=9"], 1, "data.num_train is a key of data=synthetic only (remove it with ~data.num_train)"),
        (["-m", "+recipe.mixupp=0.1,0.2"], 1, "there is no key recipe.mixupp (did you mean recipe.mixup?)"),
        (["-m", "optim=sgd,adam", "optim.momentun=0.5"], 1, "no key optim.momentun (did you mean optim.momentum?)"),
        (["optim=adamv"], 1, "optim=adamv: conf/optim has no such file (did you mean adam or nadam or adamw?)"),
        (["-m", "optim=sgd,adamv"], 1, "optim=adamv: conf/optim has no such file"),
        (["--optim=adam"], 1, "there is no flag --optim=adam: set keys as KEY=VALUE"),
        (["optim.lr=[1"], 1, "'optim.lr=[1' cannot be parsed: write KEY=VALUE"),
    ],
)
def test_help_and_misspelt_options_answer_without_importing_torch(environment, tmp_path, arguments, status, shown):
    script = (
        "import runpy, sys; sys.modules['torch'] = None; "
        f"sys.argv[1:] = {arguments!r}; runpy.run_module('intel_scenes.train', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert shown in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if status:
        assert len(done.stderr.strip().splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_shows_a_table_and_says_where_it_wrote_and_does_nothing_the_second_time(train):
    first = train(*DRAWN, *SMALL, "epochs=2")
    assert first.returncode == 0, first.stderr
    folder = run_folder(train.place)
    summary = json.loads((folder / "summary.json").read_text())
    low, high = summary["test_accuracy_interval"]
    minutes, seconds = divmod(round(summary["fit_seconds"]), 60)
    shown = dict(line.strip().split("  ", 1) for line in first.stdout.splitlines() if line.startswith("  "))
    assert shown["train accuracy"].strip().split("   ")[0] == f"{100 * summary['train_accuracy']:.1f} %"
    accuracy, best = shown["validation accuracy"].strip().split("   ")
    assert accuracy == f"{100 * summary['val_accuracy']:.1f} %"
    assert best == f"best epoch: {summary['best_epoch'] + 1} of 2"
    assert shown["test accuracy"].strip().split("   ")[0] == f"{100 * summary['test_accuracy']:.1f} %"
    assert shown["training time"].strip() == (f"{minutes} min {seconds} s" if minutes else f"{seconds} s")
    assert f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in first.stdout
    assert str(folder.relative_to(train.place)) in first.stdout
    assert [path.name for path in train.place.iterdir()] == ["outputs"]
    assert (summary["model"], summary["optim"], summary["recipe"]) == ("resnet9_x0_5", "adamw", "default")
    second = train(*SMALL[::-1], "epochs=2", *DRAWN)
    assert second.returncode == 0
    assert "is complete" in second.stderr
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_the_seconds_of_features_are_told_beside_those_of_the_training(capsys):
    summary = Summary(
        **{"status": Status.COMPLETED, "test_accuracy_interval": (0.9, 0.95), "best_epoch": 1, "epochs": 3},
        **{"val_accuracy": 0.924, "test_accuracy": 0.93, "fit_seconds": 3.2, "features_seconds": 249.4},
    )
    cli.show(summary, Path("a"), is_one_of_many=True)
    assert capsys.readouterr().out == "  validation accuracy 92.4 %, features 4 min 9 s, training 3 s\n"
    cli.show(summary, Path("a"), is_one_of_many=False)
    shown = capsys.readouterr().out
    assert "  features              4 min 9 s, computed" in shown
    assert "  training time         3 s\n" in shown
    cli.show(replace(summary, features_seconds=None), Path("a"), is_one_of_many=True)
    assert capsys.readouterr().out == "  validation accuracy 92.4 %, training time 3 s\n"


def test_taking_out_what_the_recipe_does_not_have_is_refused(train):
    done = train(*DRAWN, *SMALL, "without=mixing")
    assert_one_sentence(
        done, "without=mixing has no effect, because the recipe does not have that ingredient: leave it out"
    )
    assert train(*DRAWN, *SMALL, "without=averaging", "dry_run=true").returncode == 0
    assert train(*DRAWN, *SMALL, "without=nothing", "dry_run=true").returncode == 0


def test_a_key_that_must_be_given_is_named(train):
    done = train(*DRAWN, "epochs=1", "model=torchvision")
    assert_one_sentence(done, "model.name is not given: set model.name=VALUE")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("~recipe.mixup", "every run needs recipe.mixup, but no file or override sets it: set ++recipe.mixup=VALUE"),
        ("~epochs", "every run needs epochs,"),
        ("~augment", "every run needs augment,"),
        ("model=null", "model=null names no file: set model=NAME, a file of conf/model; --help lists them"),
        ("optim={lr:1}", "optim={lr:1} names no file: set optim=NAME, a file of conf/optim; --help lists them"),
    ],
)
def test_what_every_run_needs_cannot_be_taken_out(train, option, told):
    assert_one_sentence(train(*DRAWN, option), told)
    assert not list(train.place.iterdir())


def test_a_group_that_is_null_is_refused_by_every_command(environment, tmp_path):
    done = forked("intel_scenes.audit", "model=null", cwd=tmp_path, env=environment)
    assert_one_sentence(done, "model=null names no file: set model=NAME, a file of conf/model; --help lists them")


def test_a_file_of_ones_own_that_includes_itself_is_told(train):
    (train.place / "more/recipe").mkdir(parents=True)
    (train.place / "more/recipe/mine.yaml").write_text("# @package _global_\ndefaults: [/recipe: plain, _self_]\n")
    done = train("--config-dir", "more", *DRAWN, "recipe=mine")
    assert_one_sentence(done, "a configuration file includes itself")


def test_a_file_of_ones_own_that_is_no_yaml_is_told_with_its_line(train):
    (train.place / "more/optim").mkdir(parents=True)
    (train.place / "more/optim/mine.yaml").write_text("lr: 0.1\n  _target_: torch.optim.SGD\n")
    done = train("--config-dir", "more", *DRAWN, "optim=mine")
    assert_one_sentence(done, "more/optim/mine.yaml, line 2, is not valid YAML (mapping values are not allowed here)")


def test_a_file_of_ones_own_with_the_name_of_one_of_the_package_is_refused(train):
    (train.place / "more/optim").mkdir(parents=True)
    (train.place / "more/optim/sgd.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n")
    done = train("--config-dir", "more", *DRAWN, "optim=sgd")
    assert_one_sentence(done, "more/optim/sgd.yaml would not be used, because the package has a file of that name")


def test_a_run_folder_that_cannot_be_made_is_named(train):
    (train.place / "taken").write_text("a file")
    done = train(*DRAWN, *SMALL, "hydra.run.dir=taken/run")
    assert_one_sentence(done, "taken/run: Not a directory")


@pytest.mark.parametrize(
    "option",
    [
        *("sweep.name=mine", "sweep.plan=true", "sweep.shard=1/8", "sweep.plan_file=plan.json"),
        *("study.tuned=[lr_scale]", "compare.rope=1", "study_minutes=5"),
    ],
)
def test_what_is_for_sweeps_is_refused_on_a_single_run(train, option):
    key = option.partition("=")[0]
    done = train(*DRAWN, *SMALL, option)
    assert_one_sentence(done, f"{key} has no effect on a single run: leave it out, or add -m or study=NAME")
    assert not list(train.place.iterdir())


def test_an_optimizer_from_a_file_of_ones_own(train):
    (train.place / "more/optim").mkdir(parents=True)
    (train.place / "more/optim/mine.yaml").write_text("_target_: torch.optim.Adamax\n_partial_: true\nlr: 0.002\n")
    arguments = ("--config-dir", "more", *DRAWN, *SMALL, "recipe=plain", "optim=mine", "epochs=1")
    assert_one_sentence(train(*arguments, "+optim.amsgrad=true"), "there is no key optim.amsgrad: torch.optim.Adamax")
    assert "\n  optim: adam, adamw, mine, " in train(*arguments, "--help").stdout
    done = train(*arguments)
    assert done.returncode == 0, done.stderr
    summary = json.loads((run_folder(train.place) / "summary.json").read_text())
    assert (summary["optim"], summary["lr"]) == ("mine", 0.002)


@pytest.mark.parametrize("option", ["dry_run=true", "study=mine", "study=mine sweep.plan=true"])
def test_a_key_that_nothing_takes_is_refused_in_files_of_ones_own_too(train, option):
    for group, text in (
        ("optim", "_target_: torch.optim.Adamax\n_partial_: true\nlr: 0.002\nmomentum: 0.9\n"),
        ("recipe", "# @package _global_\ndefaults: [plain, _self_]\nrecipe: {focal_loss: true}\n"),
        ("study", "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n"),
    ):
        (train.place / "more" / group).mkdir(parents=True)
        (train.place / "more" / group / "mine.yaml").write_text(text)
    arguments = ("--config-dir", "more", *DRAWN, *SMALL, *option.split())
    shutil.copytree(train.place / "more", train.place / "before")
    done = train(*arguments, "recipe=plain", "optim=mine")
    assert_one_sentence(done, "there is no key optim.momentum: torch.optim.Adamax takes lr, betas, eps, weight_decay,")
    done = train(*arguments, "recipe=mine")
    assert_one_sentence(done, "there is no key recipe.focal_loss: recipe takes class_weight, cutmix, ")
    assert sorted(path.name for path in train.place.iterdir()) == ["before", "more"]


def test_an_argument_that_is_taken_and_stands_in_no_file_is_added_by_a_plus(train):
    told = "none of the chosen files has optim.amsgrad: add it with +optim.amsgrad=VALUE"
    assert_one_sentence(train(*DRAWN, *SMALL, "optim.amsgrad=true"), told)
    assert_one_sentence(train(*DRAWN, *SMALL, "optim=sgd", "optim.amsgrad=true"), "torch.optim.SGD takes lr, momentum")
    swept = ("-m", *DRAWN, *SMALL)
    told = "some of the files that are swept do not have optim.momentum: set it with ++optim.momentum=VALUE"
    assert_one_sentence(train(*swept, "optim=sgd,adam", "optim.momentum=0.5"), told)
    assert_one_sentence(train(*swept, "optim=sgd,adam", "++optim.momentum=0.5"), "momentum: torch.optim.Adam takes lr")
    assert_one_sentence(train(*swept, "optim=adam,rmsprop", "optim.betas=[0,0]"), "betas: torch.optim.RMSprop takes lr")
    assert train(*DRAWN, *SMALL, "+optim.amsgrad=true", "dry_run=true").returncode == 0


LONG = ("optim.weight_decay=0.0125", "scheduler=constant", "recipe=plain", "data.batch_size=36")


@pytest.mark.parametrize("flag", [(), ("-m", "sweep.name=long")])
def test_a_run_under_a_name_that_lost_its_seed_goes_on_there(train, flag):
    arguments = (*DRAWN, *SMALL, "model=mobilenet_v3_small", *LONG, "epochs=1", "seed=7", *flag)
    assert train(*arguments).returncode == 0
    (summary,) = train.place.glob("*/**/summary.json")
    folder = summary.parent
    label, _, digest = folder.name.rpartition("-")
    assert label.endswith(",seed=7")
    before = "model=mobilenet_v3_small,scheduler=constant,recipe=plain,data.batch_size=36,seed"  # 80 characters
    assert len(before) == len(label) == 80
    folder.rename(folder.with_name(f"{before}-{digest}"))
    done = train(*arguments)
    assert done.returncode == 0, done.stderr
    assert ("all runs were finished before" in done.stdout) if flag else ("is complete" in done.stderr)
    assert [path.parent.name for path in train.place.glob("*/**/summary.json")] == [f"{before}-{digest}"]


@pytest.mark.parametrize("bar", ["true", "false"])
def test_in_a_file_a_run_is_told_in_whole_lines_one_for_each_epoch_and_nothing_follows(train, bar):
    done = train(*DRAWN, *SMALL, f"trainer.enable_progress_bar={bar}", "epochs=2")
    assert done.returncode == 0
    assert "\r" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith("device:"))
    assert all(
        re.match("drawing scenes|decoding images|found: train", line) for line in lines[:begin]
    )  # where no other test has
    told = lines[begin:]
    few = "only 12 validation images, each worth 8.3 points of accuracy: add images or raise data.val_fraction"
    assert told.pop(2).strip() == few
    assert [line.split(":")[0] for line in told[:6]] == ["device", "images", "classes", "network", "recipe", "epochs"]
    assert "train 108, val 12, test 30" in told[1]
    assert "buildings 18, forest 18" in told[2]
    assert "resnet9_x0_5" in told[3]
    assert "optim adamw, scheduler warmup_cosine" in told[4]
    assert told[5] == "epochs:  2, of 3 batches each; numbered from 1 here, from 0 in history.csv"
    with (run_folder(train.place) / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert told[6].strip() == "only 6 steps in all, too few to learn much: raise epochs"
    header, *rows = told[7:]
    assert header.split() == [
        "epoch",
        "train",
        "loss",
        "val",
        "loss",
        "train",
        "acc",
        "(eval)",
        "val",
        "acc",
        "lr",
        "img/s",
        "left",
    ]
    assert [row.split()[:3] for row in rows] == [["1", "of", "2"], ["2", "of", "2"]]
    for row, epoch in zip(rows, history, strict=True):
        assert row.split()[3:5] == [f"{float(epoch[name]):.4f}" for name in ("train_loss", "val_loss")]
        accuracies = ("train_accuracy", "train_eval_accuracy", "val_accuracy")
        assert row.split()[5:11:2] == [f"{100 * float(epoch[name]):.1f}" for name in accuracies]
    assert max(map(len, [header, *rows])) <= 80


def test_an_error_in_a_run_is_the_last_line_of_its_process(train):
    assert_one_sentence(train(*DRAWN, *SMALL, "epochs=0", fresh=True), "epochs=0 must be")


def test_in_a_terminal_of_80_columns_finished_epochs_stay_readable(environment, tmp_path):
    program(tmp_path / "train", "intel_scenes.train")
    shown = in_terminal([tmp_path / "train", *DRAWN, *SMALL, "epochs=2", BAR], environment | SCREEN, tmp_path)
    screen = [[part for part in line.split("\r") if part.strip()] for line in shown.split("\n")]
    assert max(len(part) for parts in screen for part in parts if re.match("epoch| +epoch| +\\d+/2 ", part)) <= 80
    assert "epoch 1 of 2:" in shown
    last = [parts[-1] for parts in screen if parts]  # what remains of each line
    assert [line.split()[0] for line in last if re.match(r" +\d+ of 2 ", line)] == ["1", "2"]
    assert not [line for line in last if line.startswith("epoch 1 of 2")]


def test_a_multirun_goes_on_after_a_run_that_fails_and_names_it(train):
    done = train("-m", *DRAWN, *SMALL, "optim.lr=0.01,1e30", "scheduler=constant", "epochs=1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    paths = train.place.glob("multirun/by-optim.lr/*/summary.json")
    folders = {path.parent.name: json.loads(path.read_text()) for path in paths}
    assert sorted(summary["status"] for summary in folders.values()) == ["completed", "failed"]
    (failed,) = (name for name, summary in folders.items() if summary["status"] == "failed")
    assert f"{failed} failed: the loss is not finite at step 1" in done.stderr


def test_no_data_and_no_network_says_how_to_get_it_and_names_the_drawn_scenes(train):
    done = train("model.weights=null")
    assert_one_sentence(done, "kaggle.com/datasets/puneet6060/intel-image-classification", "data=synthetic")
    assert not list(train.place.iterdir())


def test_weights_that_cannot_be_downloaded_name_the_address_and_the_way_out(train):
    done = train(*DRAWN, *SMALL, "model=mobilenet_v3_small", "model.weights=DEFAULT")
    assert_one_sentence(done, "mobilenet_v3_small", "https://", "set model.weights to a file, or to null")
    assert not list(train.place.iterdir())


@pytest.fixture
def scenes(tmp_path):
    return drawn_folder(tmp_path, num_train=120, num_test=30, size=40, seed=3)


def test_a_missing_and_an_empty_class_folder_are_named(train, scenes):
    shutil.rmtree(scenes / "seg_test" / "sea")
    assert_one_sentence(train("data=folder", f"data.root={scenes}", *SMALL), str(scenes), "sea (in train only)")
    (scenes / "seg_test" / "sea").mkdir()
    assert_one_sentence(train("data=folder", f"data.root={scenes}", *SMALL), str(scenes / "seg_test" / "sea"))
    assert not list(train.place.iterdir())


def test_all_images_that_cannot_be_decoded_are_named_and_can_be_skipped(train, scenes):
    broken = sorted(scenes.glob("seg_train/forest/*"))[:2]
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    arguments = ("data=folder", f"data.root={scenes}", *SMALL, "data.store_size=40", "epochs=1")
    assert_one_sentence(train(*arguments), *map(str, broken), "data.on_unreadable=skip")
    done = train(*arguments, "data.on_unreadable=skip")
    assert done.returncode == 0, done.stderr
    assert f"2 images could not be decoded; skipped: forest/{broken[0].name}, forest/{broken[1].name}" in done.stderr
    summary = json.loads((run_folder(train.place) / "summary.json").read_text())
    assert summary["num_train"] + summary["num_val"] == 118


def test_test_images_that_are_also_in_train_are_named_in_a_warning_and_in_the_record(train, scenes):
    source = min(scenes.glob("seg_train/sea/*"))
    shutil.copy(source, scenes / "seg_test" / "street" / "twin.jpg")
    done = train("data=folder", f"data.root={scenes}", *SMALL, "data.store_size=40", "epochs=1")
    assert "1 test image is also in train: street/twin.jpg" in done.stderr
    summary = json.loads((run_folder(train.place) / "summary.json").read_text())
    assert summary["test_duplicates"] == ["street/twin.jpg"]


def test_grey_alpha_and_turned_images_of_other_sizes_and_classes_train(train, tmp_path):
    for split in ("seg_train", "seg_test"):
        for name, mode in (("bright", "L"), ("dark", "RGBA")):
            folder = tmp_path / "mixed" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                image = Image.new(mode, (30 + number, 72 if number % 2 else 400), 200 - 5 * number)
                image.save(folder / f"{number}.png")
    folder = tmp_path / "mixed"
    done = train("data=folder", f"data.root={folder}", *SMALL, "data.store_size=40", "data.batch_size=8", "epochs=1")
    assert done.returncode == 0, done.stderr
    summary = json.loads((run_folder(train.place) / "summary.json").read_text())
    assert summary["classes"] == ["bright", "dark"]


def test_a_full_disk_is_one_sentence_and_leaves_no_half_written_file(train):
    assert train(*DRAWN, *SMALL, "trainer=debug").returncode == 0  # the images are in the cache from here on
    shutil.rmtree(train.place / "outputs")
    done = train(
        *DRAWN, *SMALL, meanwhile=lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    )
    assert_one_sentence(done, "no space left", "hydra.run.dir")
    folder = run_folder(train.place)
    assert json.loads((folder / "summary.json").read_text())["status"] in ("failed", "interrupted")
    assert not list(folder.rglob("*.ckpt"))
    assert not list(folder.rglob(".*"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_goes_on(train, number, status):
    epochs = 15
    arguments = (*DRAWN, *SMALL, f"epochs={epochs}", "data.batch_size=54")

    def interrupt(pid):
        wait_until(lambda: any(train.place.glob("outputs/*/checkpoints/last.ckpt")), 60)
        os.kill(pid, number)

    stopped = train(*arguments, meanwhile=interrupt)
    assert stopped.returncode == status, stopped.stderr
    assert "start the same command again to resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    folder = run_folder(train.place)
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert 0 < len((folder / "history.csv").read_text().splitlines()) - 1 < epochs
    done = train(*arguments)
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert len((folder / "history.csv").read_text().splitlines()) - 1 == epochs


def test_two_processes_on_one_run_do_not_disturb_each_other(train):
    arguments = (*DRAWN, *SMALL, "epochs=20")

    def start_again(_):
        wait_until(lambda: any(train.place.glob("outputs/*/history.csv")), 60)
        assert_one_sentence(train(*arguments), "another process is running")

    assert train(*arguments, meanwhile=start_again).returncode == 0
    assert json.loads((run_folder(train.place) / "summary.json").read_text())["status"] == "completed"


def test_a_dry_run_says_what_a_run_will_cost_and_leaves_nothing(train):
    done = train(*DRAWN, *SMALL, "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "108 training images in 3 batches of 32" in done.stdout
    assert not list(train.place.iterdir())


@pytest.mark.slow
def test_two_devices_count_every_evaluation_image_once(train):
    done = train(*DRAWN, *SMALL, "epochs=2", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("written to") == 1
    folder = run_folder(train.place)
    history = (folder / "history.csv").read_text().splitlines()
    rows = [line.split(",") for line in (folder / "predictions.csv").read_text().splitlines()[1:]]
    val = [row for row in rows if row[0] == "val"]
    assert len(val) == 12
    share = sum(row[2] == row[3] for row in val) / 12
    best = json.loads((folder / "summary.json").read_text())["best_epoch"]
    assert float(history[1 + best].split(",")[7]) == pytest.approx(share, abs=1e-6)
