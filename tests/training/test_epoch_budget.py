import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.digests import Facts, digests
from intel_scenes.errors import UserError
from intel_scenes.record import Origin, Status, Summary
from intel_scenes.training.build import check_parts
from intel_scenes.training.claim import Place
from intel_scenes.training.cost_forecast import Costs, fitted_epochs
from intel_scenes.training.dry_run import dry_run
from intel_scenes.training.epoch_budget import at_equal_steps, known_epochs
from intel_scenes.training.run import run
from tests.process import forked
from tests.small import DRAWN, SMALL, asked

FACTS = Facts(weights=None, data="d", precision="32-true", threads=1)


def costs(features: float = 0.0) -> Costs:
    return Costs(
        {32: 0.5, 64: 1.0},
        num_timed=8,
        num_batches=10,
        evaluation_seconds=0.01,
        features_seconds=features,
        state_bytes=0,
        peak_bytes=None,
    )


# 100 images make ten batches; evaluating 20 takes 0.2 s: an epoch takes 5.2 s at 32 px and 10.2 s at 64 px.
SPLITS = SimpleNamespace(train=np.arange(100), val=np.arange(10), train_eval=np.arange(10))
DATA = SimpleNamespace(splits=SPLITS, train_sizes=[64])


@pytest.mark.parametrize(
    ("minutes", "features", "expected"),
    [(1, 0, 5), (0.01, 0, 1), (51 / 60, 0, 5), (50.9 / 60, 0, 4), (1, 30, 2), (1021 / 60, 0, 100)],
)
def test_as_many_epochs_as_fit_are_trained_and_at_least_one(minutes, features, expected):
    assert fitted_epochs(costs(features), DATA, minutes) == expected


def test_each_evaluation_after_an_epoch_is_counted_of_a_head_on_all_training_images():
    assert replace(costs(), num_scored=5).epoch_seconds(DATA, 64) == pytest.approx(10 + 6 * 0.2)
    of_head = replace(costs(), num_scored=5, scores_all=True)
    assert of_head.epoch_seconds(DATA, 64) == pytest.approx(10 + 0.2 + 5 * (0.1 + 1))


def test_a_budget_too_small_for_one_epoch_is_reported(caplog):
    fitted_epochs(costs(0), DATA, 0.1)
    assert caplog.messages == [
        "not even one epoch fits into budget_minutes=0.1: training one epoch, which takes about 10 seconds"
    ]


def test_each_training_size_is_counted_at_its_own_cost():
    # Six epochs take 3 x 5.2 + 3 x 10.2 = 46.2 s, seven 4 x 5.2 + 3 x 10.2 = 51.4 s, eight 61.6 s.
    data = SimpleNamespace(splits=SPLITS, train_sizes=[32, 64])
    assert fitted_epochs(costs(), data, 51.5 / 60) == 7
    assert fitted_epochs(costs(), data, 1) == 7


def test_a_run_with_a_record_keeps_its_epochs(tmp_path):
    config = asked("data=synthetic", "budget_minutes=1")
    digest = digests(config, FACTS).budget
    assert known_epochs(config, FACTS, tmp_path) is None
    Summary(status=Status.INTERRUPTED, budget_digest=digest, epochs=3).write(tmp_path)
    assert known_epochs(config, FACTS, tmp_path) == 3
    assert known_epochs(asked("data=synthetic", "budget_minutes=1", "seed=7"), FACTS, tmp_path) == 3
    assert known_epochs(asked("data=synthetic", "budget_minutes=1", "recipe.mixup=0.2"), FACTS, tmp_path) is None
    assert known_epochs(asked("data=synthetic", "epochs=7"), FACTS, tmp_path) == 7


def test_a_run_with_a_budget_trains_the_epochs_that_it_reports_and_is_complete_with_them(tmp_path, cache):
    small = [text for text in SMALL if not text.startswith("epochs=")]
    arguments = [
        "intel_scenes.train",
        *DRAWN,
        f"data.cache_dir={cache}",
        *small,
        "recipe.train_size=[24,32]",
        "hydra.run.dir=run",
        "budget_minutes=0.05",
    ]
    first = forked(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    summary = json.loads((tmp_path / "run" / record.SUMMARY).read_text())
    assert f"epochs={summary['epochs']}" in first.stderr
    assert len((tmp_path / "run" / record.HISTORY).read_text().splitlines()) == 1 + summary["epochs"]
    again = forked(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is complete" in again.stderr
    assert "measuring" not in again.stderr


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["budget_minutes=1", "epochs=2"], "epochs has no effect with budget_minutes"),
        (["budget_minutes=abc", "epochs=2"], "budget_minutes=abc must be a number above 0"),
        (
            ["budget_minutes=1", "epochs=2", "recipe=linear_probe"],
            "budget_minutes does not apply to recipe.trained=head",
        ),
        (["budget_minutes=1", "recipe=linear_probe"], "budget_minutes does not apply to recipe.trained=head"),
        (["budget_minutes=0.0001", "recipe.train_size=[24,32]"], "is enough for epochs=1 only, fewer than the 2 sizes"),
        (["budget_minutes=0"], "budget_minutes=0 must be a number above 0"),
        (["budget_minutes=1", "compile=true"], "budget_minutes cannot be combined with compile=true"),
        (["budget_minutes=1", "noise_scale=4"], "budget_minutes cannot be combined with noise_scale=4"),
    ],
)
def test_options_that_conflict_with_a_budget_are_refused(typed, message, cache, tmp_path):
    overrides = (*DRAWN, f"data.cache_dir={cache}", *SMALL[:3], *SMALL[4:], *typed)
    origin = Origin(overrides=tuple(typed))
    with pytest.raises(UserError, match=message):
        run(asked(*overrides), Place(tmp_path / "never"), origin)
    if message.startswith("epochs has"):
        with pytest.raises(UserError, match=message):
            dry_run(asked(*overrides), origin)
        with pytest.raises(UserError, match=message):
            check_parts(asked(*overrides), origin.typed)


def test_the_batches_that_a_limit_leaves_are_counted(cache):
    limit = "++trainer.limit_train_batches=2"
    config = asked(*DRAWN, f"data.cache_dir={cache}", *SMALL, limit, "data.batch_size=108", "recipe=plain")
    lines = dry_run(config, Origin())
    assert "in 1 batch of 108, 1 step with epochs=1" in lines[0]  # fewer than the limit, and still measured
    assert "nan" not in "".join(lines)


def test_epochs_that_another_process_measured_before_the_claim_are_kept(tmp_path, cache, monkeypatch):
    config = asked(*DRAWN, *SMALL, "data.batch_size=8", f"data.cache_dir={cache}", "budget_minutes=1")
    answers = iter([None, 1])  # asked before the claim, and after it
    monkeypatch.setattr("intel_scenes.training.run.known_epochs", lambda *_: next(answers))
    summary = run(config, Place(tmp_path / "run"), Origin(), epochs_of_budget=lambda *_: pytest.fail("measured again"))
    assert summary.epochs == 1


@pytest.mark.parametrize(
    ("num_train", "num_whole", "epochs"),
    [
        (631, 12632, 735),  # 30 epochs of 49 batches are 1,470 steps, and 2 batches fit into 631 images
        (3158, 12632, 122),  # 12 batches: 122.5, rounded to even
        (12632, None, 30),
    ],
)
def test_equal_steps_are_as_many_epochs_as_take_the_steps_of_all_images(num_train, num_whole, epochs):
    splits = SimpleNamespace(train=np.arange(num_train), num_whole=num_whole)
    data = SimpleNamespace(splits=splits, batch_size=256, num_batches=num_train // 256)
    config = asked("epochs=30", "data.batch_size=256", "data.train_fraction=0.5", "equal_steps=true")
    assert at_equal_steps(config, data).epochs == epochs
    assert at_equal_steps(asked("epochs=30", "data.train_fraction=0.5"), data).epochs == 30


def test_equal_steps_count_all_passes_of_an_epoch():
    splits = SimpleNamespace(train=np.arange(24), num_whole=48)
    data = SimpleNamespace(splits=splits, num_batches=5 * 3)  # 8 images in each of 15 batches
    config = asked(
        *("recipe=linear_probe", "epochs=30", "data.batch_size=8", "data.passes_per_epoch=5"),
        *("data.train_fraction=0.5", "equal_steps=true"),
    )
    assert at_equal_steps(config, data).epochs == 60


def test_equal_steps_of_full_batches_are_equal_epochs():
    data = SimpleNamespace(splits=SimpleNamespace(train=np.arange(24), num_whole=48), num_batches=1)
    config = asked("epochs=30", "data.batch_size=full", "data.train_fraction=0.5", "equal_steps=true")
    assert at_equal_steps(config, data).epochs == 30


def test_equal_steps_are_those_of_the_optimizer_which_takes_several_batches():
    data = SimpleNamespace(splits=SimpleNamespace(train=np.arange(631), num_whole=12632), batch_size=256, num_batches=2)
    config = asked(
        "epochs=30",
        "data.batch_size=256",
        "data.train_fraction=0.5",
        "equal_steps=true",
        "++trainer.accumulate_grad_batches=4",
    )
    # 49 batches are 13 steps, the last of one batch; 2 batches are one.
    assert at_equal_steps(config, data).epochs == 390
