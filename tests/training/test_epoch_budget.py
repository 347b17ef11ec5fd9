import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.sweeps.names import conf_folder
from intel_scenes.training import epoch_budget as budget
from intel_scenes.training import run as experiment
from intel_scenes.training.cost_forecast import Costs, fitted_epochs
from tests.process import forked
from tests.small import DRAWN, SMALL

FACTS = {"weights": None, "data": "d", "precision": "32-true", "threads": 1}


def costs(features: float = 0.0) -> Costs:
    return Costs({32: 0.5, 64: 1.0}, 8, num_batches=10, evaluation=0.01, features=features, kept=0, held=None)


# 100 images make ten batches; evaluating 20 takes 0.2 s: an epoch takes 5.2 s at 32 px and 10.2 s at 64 px.
DATA = SimpleNamespace(train=np.arange(100), batch_size=10, val=np.arange(10), train_eval=np.arange(10))


@pytest.mark.parametrize(
    ("minutes", "features", "expected"),
    [(1, 0, 5), (0.01, 0, 1), (51 / 60, 0, 5), (50.9 / 60, 0, 4), (1, 30, 2), (1021 / 60, 0, 100)],
)
def test_as_many_epochs_as_fit_are_taken_and_one_at_least(minutes, features, expected):
    assert fitted_epochs(costs(features), DATA, lambda epochs: [64] * epochs, minutes) == expected


def test_a_time_that_is_too_short_for_one_epoch_is_named(caplog):
    fitted_epochs(costs(0), DATA, lambda epochs: [64] * epochs, 0.1)
    assert caplog.messages == ["not even one epoch fits into 0.1 minutes: one is trained, in about 10 seconds"]


def test_growing_images_are_counted_at_their_own_cost():
    def sizes(epochs: int) -> list[int]:
        return [32] * (epochs // 2) + [64] * (epochs - epochs // 2)

    # Six epochs take 3 x 5.2 + 3 x 10.2 = 46.2 s, seven 56.4 s, eight 61.6 s.
    assert fitted_epochs(costs(), DATA, sizes, 1) == 7


def plain(**changes: object) -> dict[str, object]:
    recipe, optim = {"views": 1, "mixup": 0.0}, {"_target_": "SGD", "lr": 0.1}
    return {"seed": 1, "epochs": 10, "num_steps": 0, "scheduler": {}, "recipe": recipe, "optim": optim, **changes}


def test_a_run_with_a_record_keeps_its_epochs(tmp_path):
    digest = budget.budget_digest(plain(), FACTS)
    record.write_summary(tmp_path, {"status": "interrupted", "budget_digest": digest, "epochs": 3})
    assert budget.epochs(plain(seed=1), FACTS, tmp_path, lambda: 8) == 3
    assert budget.epochs(plain(recipe={"mixup": 0.2}), FACTS, tmp_path, lambda: 8) == 8  # another configuration
    assert budget.epochs(plain(), FACTS, None, lambda: 8) == 8


def test_what_is_measured_for_one_seed_serves_all_and_other_configurations_are_measured_anew(tmp_path):
    (tmp_path / record.STUDY).write_text(yaml.safe_dump({"question": "which?", "planned": ["a"]}))
    answers = iter([4, 9, 6])
    free = [{"seed": 2}, {"epochs": 7, "scheduler": {"x": 1}}, {"lr_scale": 3, "optim": {"_target_": "SGD", "lr": 9}}]
    others = [({"b": 1}, 9), ({"optim": {"_target_": "Adam", "lr": 0.1}}, 6)]
    for changes, expected in [({}, 4), *((one, 4) for one in free), *others]:
        found = budget.epochs(plain(**changes), FACTS, tmp_path / "run", lambda: next(answers))
        assert found == expected
    held = yaml.safe_load((tmp_path / record.STUDY).read_text())
    assert held["question"] == "which?"
    assert sorted(held["fitted_epochs"].values()) == [4, 6, 9]


def test_a_run_of_a_given_time_trains_all_epochs_that_it_says_and_goes_on_with_them(tmp_path, cache):
    small = [text for text in SMALL if not text.startswith("epochs=")]
    arguments = [
        "intel_scenes.train",
        *DRAWN,
        f"data.cache_dir={cache}",
        *small,
        "recipe.train_size=[24,32]",
        "hydra.run.dir=run",
        "budget_minutes=0.03",
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
    ("typed", "said"),
    [
        (["budget_minutes=1", "epochs=2"], "epochs has no effect with budget_minutes"),
        (["budget_minutes=abc", "epochs=2"], "budget_minutes=abc must be a number above 0"),
        (["budget_minutes=1", "epochs=2", "recipe=linear_probe"], "budget_minutes is for whole networks"),
        (["budget_minutes=1", "recipe=linear_probe"], "budget_minutes is for whole networks"),
        (["budget_minutes=0.0001", "recipe.train_size=[24,32]"], "is enough for epochs=1 only, fewer than the 2 sizes"),
        (["budget_minutes=0"], "budget_minutes=0 must be a number above 0"),
        (["budget_minutes=1", "compile=true"], "budget_minutes is measured without compiling"),
    ],
)
def test_what_a_budget_does_not_go_together_with_is_refused(typed, said, cache):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("train", [*DRAWN, f"data.cache_dir={cache}", *SMALL[:3], *SMALL[4:], *typed])
    with pytest.raises(UserError, match=said):
        experiment.run(cfg, Path("never"), choices={}, overrides=typed, composition_digest="")
    if said.startswith("epochs has"):
        for foresee in (experiment.dry_run, experiment.check):
            with pytest.raises(UserError, match=said):
                foresee(cfg, typed)


def test_the_batches_that_a_limit_leaves_are_counted(cache):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        limit = "++trainer.limit_train_batches=2"
        cfg = compose(
            "train", [*DRAWN, f"data.cache_dir={cache}", *SMALL, limit, "data.batch_size=108", "recipe=plain"]
        )
        lines = experiment.dry_run(cfg)
    assert "in 1 batches of 108, 2 steps with epochs=2" in lines[0]  # fewer than the limit, and still measured
    assert "nan" not in "".join(lines)
