import json

import numpy as np
import pytest
import yaml
from scipy import stats

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.sentences import notes, problems, unplanned
from intel_scenes.studies.render.tables import leaderboard
from tests.studies.simulated import table, world
from tests.studies.simulated_records import leave, leave_run, leave_study, right

RNG = np.random.default_rng(3)


def verdicts(comparison):
    return {(pair.a, pair.b): pair.text for pair in comparison.pairs}


def test_arms_are_ordered_by_validation_accuracy_and_tested_on_the_test_images(tmp_path):
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.95, val_accuracy=0.80)
        leave(tmp_path, "adam", seed, 0.60, val_accuracy=0.90)
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["adam", "sgd"]
    (pair,) = comparison.pairs
    assert (pair.a, pair.b, pair.text, pair.is_paired) == ("adam", "sgd", "worse", True)
    assert pair.difference == pytest.approx(0.60 - 0.95)
    assert pair.p_better == 0


def test_keys_determined_by_a_recipe_are_listed_once_and_are_in_no_label(tmp_path):
    own = {"recipe": "default", "data.image_size": 160, "optim.lr": 0.0005}
    for seed in (1, 2):
        leave_run(tmp_path, f"default{seed}", own | {"seed": seed}, right(0.9, seed=seed), recipe="default")
        typed = {"recipe": "notebook", "seed": seed}
        leave_run(tmp_path, f"notebook{seed}", typed, right(0.8, seed=seed), recipe="notebook")
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["default", "notebook"]
    assert comparison.factors == ("data.image_size", "optim.lr", "recipe")
    assert comparison.arms[0].chosen.values == {"data.image_size": "160", "optim.lr": "0.0005", "recipe": "default"}
    recipes = "default with data.image_size=160, optim.lr=0.0005; notebook with its own values"
    assert f"arms are named after their recipe alone: {recipes}" in notes(comparison.notices)
    smaller = own | {"data.image_size": 96, "seed": 3}
    leave_run(tmp_path, "smaller", smaller, right(0.7, seed=3), recipe="default")
    labels = {arm.label for arm in compare(tmp_path).arms}
    assert labels == {f"data.image_size={side}" for side in ("160/default", "96/default", "default/notebook")}


def test_a_label_has_the_key_where_the_value_alone_means_nothing(tmp_path):
    for seed in (1, 2):
        for value in ("True", "False"):  # as a multirun writes them
            leave_run(tmp_path, f"{value}{seed}", {"compile": value, "seed": seed}, right(0.9, seed=seed))
    assert {arm.label for arm in compare(tmp_path).arms} == {"compile=true", "compile=false"}


def test_validation_chooses_the_tuned_values_within_an_arm(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            for scale, val in ((0.1, 0.7), (1, 0.9 if optim == "sgd" else 0.6), (10, 0.8)):
                leave(tmp_path, optim, seed, 0.8, typed={"lr_scale": scale}, val_accuracy=val)
    comparison = compare(tmp_path)
    assert comparison.factors == ("optim", "lr_scale")
    sgd, adam = comparison.arms
    assert [one.values["lr_scale"] for one in sgd.configurations] == ["1", "10", "0.1"]
    assert (sgd.chosen.values["lr_scale"], sgd.is_unequal) == ("1", False)
    assert adam.is_unequal
    said = "adam: not comparable, because the best lr_scale=10 is at the edge of the grid: add lr_scale=100"
    assert said in problems(comparison.notices)
    assert verdicts(comparison) == {("sgd", "adam"): "not tuned"}


@pytest.mark.parametrize(
    ("best", "compared", "told"),
    [
        (
            *(10, ["sgd", "adam"]),
            "adam: not comparable, because the best lr_scale=10 is at the edge of the grid, where study_minutes left "
            "out lr_scale=30: raise study_minutes",
        ),
        (
            *(10, ["adam"]),
            "; raise study_minutes, which left out lr_scale=30: the best value is at the edge of the grid.",
        ),
        (0.1, ["adam"], "; add lr_scale=0.01: the best value is at the edge of the grid."),
    ],
)
def test_at_an_edge_that_study_minutes_cut_no_value_is_to_be_added(tmp_path, best, compared, told):
    budget = {"minutes": 9.0, "of": "a", "epochs": 2, "cut": ["lr_scale=30", "lr_scale=x", "optim.lr=50"]}
    plan = {"compared": ["optim"], "tuned": ["lr_scale"], "budgets": [budget]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    for optim in compared:
        for scale in (0.1, 1, 10):
            val = 0.9 if scale == (1 if optim == "sgd" else best) else 0.7
            leave(tmp_path, optim, 1, 0.8, typed={"lr_scale": scale}, val_accuracy=val)
    comparison = compare(tmp_path)
    assert told in "\n".join([*problems(comparison.notices), *answer(comparison)])


def test_one_seed_per_arm_gives_mcnemars_test_and_no_verdict(tmp_path):
    leave(tmp_path, "sgd", 1, 0.9)
    leave(tmp_path, "adam", 1, 0.5)
    comparison = compare(tmp_path)
    assert comparison.pairs[0].text == "untestable"
    (one,) = comparison.single_runs
    right = [arm.tested.table[0] > 0 for arm in reversed(comparison.arms)]
    assert (one.a, one.b) == ("adam", "sgd")
    assert (one.only_a, one.only_b) == tuple(int((mine & ~theirs).sum()) for mine, theirs in (right, right[::-1]))
    assert one.p_value == pytest.approx(stats.binomtest(one.only_a, one.only_a + one.only_b).pvalue)
    assert comparison.corrected is None


def test_one_seed_against_several_is_neither_paired_nor_tested(tmp_path):
    leave(tmp_path, "sgd", 1, 0.9)
    for seed in (1, 2, 3):
        leave(tmp_path, "adam", seed, 0.6)
    comparison = compare(tmp_path)
    (pair,) = comparison.pairs
    assert (pair.text, pair.is_paired, sorted(pair.num_seeds)) == ("untestable", False, [1, 3])
    assert "compared on the seeds that both arms have" not in "\n".join(problems(comparison.notices))


def test_seeds_whose_order_differs_are_not_paired(tmp_path):
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.95)
        leave(tmp_path, "adam", seed, 0.6, order_digest=f"other {seed}")
    (pair,) = compare(tmp_path).pairs
    assert (pair.is_paired, len(pair.estimate.sides)) == (False, 2)


def test_within_an_architecture_paired_runs_have_equal_initial_weights(tmp_path):
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.95)
        leave(tmp_path, "adam", seed, 0.6, init_digest=f"other {seed}")
        leave(tmp_path, "adamw", seed, 0.8, init_digest=f"other {seed}", model_name="resnet50")
    paired = {(pair.a, pair.b): pair.is_paired for pair in compare(tmp_path).pairs}
    assert paired == {("sgd", "adamw"): True, ("sgd", "adam"): False, ("adamw", "adam"): True}


def test_the_largest_group_of_one_data_set_is_compared_and_the_others_are_named(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
        leave(tmp_path, "adam", seed, 0.8)
    leave(tmp_path, "nadam", 1, 0.99, data_fingerprint="other")
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["sgd", "adam"]
    assert any("images differ" in line and "optim=nadam,seed=1" in line for line in unplanned(comparison.notices))


def test_runs_with_equal_predictions_are_named_and_counted_once(tmp_path):
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.9)
    first = tmp_path / "optim=sgd,seed=1" / record.PREDICTIONS
    (tmp_path / "optim=sgd,seed=2" / record.PREDICTIONS).write_bytes(first.read_bytes())
    comparison = compare(tmp_path)
    assert comparison.arms[0].chosen.table.shape == (2, 120)
    assert any("counted once: optim=sgd,seed=2 and optim=sgd,seed=1" in line for line in unplanned(comparison.notices))


def test_the_same_run_in_two_folders_counts_once(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
    leave_run(tmp_path, "twin", {"optim": "sgd", "seed": 2}, right(0.9, seed=2), config_digest="{'optim': 'sgd'} 2")
    comparison = compare(tmp_path)
    assert len(comparison.runs) == 2
    assert any("twin is the same run as optim=sgd,seed=2" in line for line in problems(comparison.notices))


def test_failed_runs_stay_in_the_denominator(tmp_path):
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.95)
        leave(tmp_path, "adam", seed, 0.6)
    leave(tmp_path, "sgd", 4, 0.9, status="failed", error="the loss is not finite", config_digest=None)
    comparison = compare(tmp_path)
    assert [run.name for run in comparison.study.failed] == ["optim=sgd,seed=4"]
    assert comparison.arms[0].chosen.num_failed == 1
    assert "sgd: 1 of 4 runs failed" in problems(comparison.notices)
    assert any(
        "if the failed runs had predicted at chance, sgd against adam would be: no difference shown" in line
        for line in notes(comparison.notices)
    )


def test_a_baseline_is_what_all_others_are_compared_with(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 3, "adamw": 3}, 3)
    comparison = compare(tmp_path, baseline="sgd")
    texts = verdicts(comparison)
    assert texts.pop(("adam", "adamw"), texts.pop(("adamw", "adam"), None)) == ""
    assert set(texts.values()) == {"better"}
    with pytest.raises(UserError, match=r"is not an arm: choose one of .*sgd"):
        compare(tmp_path, baseline="sdg")


def test_keys_that_records_of_older_versions_lack_are_null(tmp_path):
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            folder = leave(tmp_path, optim, seed, 0.9)
            old = json.loads((folder / record.SUMMARY).read_text())
            for key in ("init_digest", "test_folder", "images_per_second", "test_duplicates", "config_digest"):
                del old[key]
            (folder / record.SUMMARY).write_text(json.dumps(old))
    comparison = compare(tmp_path)
    assert len(comparison.runs) == 4
    assert comparison.pairs[0].is_paired is False, "equal initial weights are not recorded"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (record.SUMMARY, "{", "is not a record"),
        (record.SUMMARY, "[]", "is not a record"),
        (record.SUMMARY, '{"status": "completed"}', "but val_accuracy is null"),
        (record.SUMMARY, '{"status": "done"}', "holds status: done, which no run writes"),
        (record.OVERRIDES, "a: 1", "is not a list"),
        (record.OVERRIDES, "[", "is left out"),
        (record.PREDICTIONS, "split,path\n", "has no test images"),
        (record.PREDICTIONS, None, "cannot be read"),
        (record.PREDICTIONS, "split,path,label,predicted\ntest,a/b.jpg,0,0,\n", "1 test images and 100.00 % accuracy"),
    ],
)
def test_a_corrupt_record_gives_a_notice_and_the_others_are_compared(tmp_path, file, content, said):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
        leave(tmp_path, "adam", seed, 0.8)
    broken = leave(tmp_path, "nadam", 1, 0.7) / file
    broken.unlink() if content is None else broken.write_text(content)
    comparison = compare(tmp_path)
    lines = problems(comparison.notices) + unplanned(comparison.notices)
    assert any("optim=nadam,seed=1" in line and said in line for line in lines), lines
    assert ("sgd", "adam") in verdicts(comparison)


def test_images_are_matched_by_path_in_any_order_and_with_commas(tmp_path):
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            folder = leave(tmp_path, optim, seed, 0.9 if optim == "sgd" else 0.5)
            head, *rows = (folder / record.PREDICTIONS).read_text().splitlines()
            rows = [row.replace("test,buildings/test00000.jpg", 'test,"buildings/a, b.jpg"') for row in rows]
            rows = rows[::-1] if optim == "adam" else rows
            (folder / record.PREDICTIONS).write_text("\n".join([head, *rows]) + "\n")
    comparison = compare(tmp_path)
    assert "buildings/a, b.jpg" in comparison.images.paths
    (problem,) = problems(comparison.notices)
    assert problem.startswith("the order of the optimizers may come from learning rates that were not tuned")
    assert [float(arm.chosen.table.mean()) for arm in comparison.arms] == pytest.approx([0.9, 0.5], abs=0.01)


def test_a_class_without_test_images_has_no_accuracy(tmp_path):
    for seed in (1, 2):
        folder = leave(tmp_path, "sgd", seed, 0.9)
        lines = (folder / record.PREDICTIONS).read_text().splitlines()
        kept = [line for line in lines if not line.startswith("test,street")]
        (folder / record.PREDICTIONS).write_text("\n".join(kept) + "\n")
        rows = [line.split(",") for line in kept[1:]]
        accuracy = np.mean([row[2] == row[3] for row in rows])
        edit(folder, test_accuracy=float(accuracy), num_test=len(rows))
    chosen = compare(tmp_path).arms[0].chosen
    assert np.isnan(chosen.per_class).tolist() == [False] * 5 + [True]
    assert chosen.balanced_accuracy == pytest.approx(np.nanmean(chosen.per_class))


def edit(folder, **changes):
    path = folder / record.SUMMARY
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_single_surviving_seed_is_not_chosen_over_all_of_them(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2, 3):
        leave(tmp_path, "sgd", seed, 0.9, typed={"lr_scale": 1}, val_accuracy=0.8)
        fate = {} if seed == 1 else {"status": "failed", "error": "e"}
        leave(tmp_path, "sgd", seed, 0.9, typed={"lr_scale": 3}, val_accuracy=0.9, **fate)
    comparison = compare(tmp_path)
    assert comparison.arms[0].chosen.values["lr_scale"] == "1"
    assert any("fewer than 3 completed runs was not chosen" in line for line in problems(comparison.notices))


def test_arms_are_compared_on_their_common_seeds_where_most_are_common(tmp_path):
    for seed in range(1, 6):
        leave(tmp_path, "sgd", seed, 0.9)
        if seed <= 4:
            leave(tmp_path, "adam", seed, 0.6)
        leave(tmp_path, "nadam", seed + 4, 0.6)
    comparison = compare(tmp_path)
    pairs = {(pair.a, pair.b): (pair.is_paired, pair.num_seeds) for pair in comparison.pairs}
    assert pairs == {
        ("sgd", "adam"): (True, (4, 4)),
        ("sgd", "nadam"): (False, (5, 5)),
        ("adam", "nadam"): (False, (4, 5)),
    }
    lines = unplanned(comparison.notices)
    assert "compared on the seeds that both arms have: sgd and adam (4)" in lines
    assert any("seeds are not paired" in line and "sgd and nadam" in line for line in lines)
    assert comparison.corrected is None


def test_runs_without_a_seed_are_never_pairs(tmp_path):
    for number in (1, 2, 3):
        for optim in ("sgd", "adam"):
            edit(leave(tmp_path, optim, number, 0.9), seed=None)
    assert compare(tmp_path).pairs[0].is_paired is False


def test_a_configuration_is_one_whatever_was_typed(tmp_path):
    for seed, typed in ((1, {"lr_scale": "1"}), (2, {"lr_scale": "1.0"}), (3, {})):
        leave(tmp_path, "sgd", seed, 0.9, typed=typed, configuration_digest="same")
        leave(tmp_path, "adam", seed, 0.9, typed=typed, configuration_digest="other")
    assert [(arm.label, len(arm.chosen.evaluated)) for arm in compare(tmp_path).arms] == [("adam", 3), ("sgd", 3)]


def test_a_factor_that_is_named_twice_counts_once(tmp_path):
    plan = {"compared": ["optim", "optim", "lr_scale"], "tuned": ["lr_scale"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    for scale in (1, 2):
        for optim in ("sgd", "adam"):
            leave(tmp_path, optim, 1, 0.9, typed={"lr_scale": scale})
    assert compare(tmp_path).factors == ("optim", "lr_scale")


def test_with_too_many_arms_each_is_compared_with_the_leader(tmp_path):
    for number in range(101):
        for seed in (1, 2):
            share = 0.5 + number / 250
            leave_run(tmp_path, f"{number}-{seed}", {"lr_scale": number, "seed": seed}, right(share, 60, seed))
    comparison = compare(tmp_path)
    assert len(comparison.pairs) == 100
    assert {pair.a for pair in comparison.pairs} == {comparison.arms[0].label} == {"lr_scale=100"}
    assert not any("effects of factors" in line for line in notes(comparison.notices)), (
        "one factor has no effects to leave out"
    )


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no runs"):
        compare(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        compare(tmp_path / "none")
    leave(tmp_path, "sgd", 1, 0.9, status="failed", error="x")
    assert compare(tmp_path).arms == ()


def test_arms_with_equal_predictions_give_a_notice_that_their_setting_has_no_effect(tmp_path):
    for seed in (1, 2):
        first = leave(tmp_path, "sgd", seed, 0.9)
        second = leave(tmp_path, "adam", seed, 0.9)
        (second / record.PREDICTIONS).write_bytes((first / record.PREDICTIONS).read_bytes())
    comparison = compare(tmp_path)
    said = "has no effect: optim=sgd,seed=1 and optim=adam,seed=1, optim=sgd,seed=2 and optim=adam,seed=2"
    assert any(line.endswith(said) for line in problems(comparison.notices))
    assert [len(arm.chosen.evaluated) for arm in comparison.arms] == [2, 2]


def test_runs_with_equal_predictions_count_once_within_an_arm(tmp_path):
    first = leave(tmp_path, "sgd", 1, 0.9)
    leave(tmp_path, "sgd", 2, 0.95)
    for seed in (1, 2):
        other = leave(tmp_path, "adam", seed, 0.9)
        (other / record.PREDICTIONS).write_bytes((first / record.PREDICTIONS).read_bytes())
    comparison = compare(tmp_path)
    assert {arm.label: len(arm.chosen.evaluated) for arm in comparison.arms} == {"sgd": 2, "adam": 1}
    assert any(
        "counted once: optim=adam,seed=2 and optim=adam,seed=1" in line for line in unplanned(comparison.notices)
    )


VIEWS = {
    "1": {"val_accuracy_tta": 0.842},
    "flip": {"val_accuracy_tta": 0.825},
    "flip_crops": {"val_accuracy_tta": 0.883},
}


def leave_views(study, views, seed, **summary):
    """Write the record of a run whose validation accuracy without TTA equals that of all others."""
    resolved = {"recipe": {"views": views if views != "1" else 1}}
    typed = {"recipe.views": views, "seed": seed}
    known = {"val_accuracy": 0.842, "recipe_resolved": resolved} | VIEWS[views]
    return leave_run(study, f"{views}{seed}", typed, right(0.8, seed=seed), **known | summary)


def test_test_time_augmentation_is_chosen_by_its_validation_accuracy(tmp_path):
    for seed in (1, 2):
        for views in VIEWS:
            leave_views(tmp_path, views, seed)
    comparison = compare(tmp_path)
    assert [arm.chosen.values["recipe.views"] for arm in comparison.arms] == ["flip_crops", "1", "flip"]
    assert comparison.corrected == pytest.approx(0.883)
    names, first, *_ = leaderboard(comparison)
    assert dict(zip(names, first, strict=True))["val % (TTA)"] == "88.3 ± 0.0"
    assert answer(comparison)[0].startswith("recipe.views=flip_crops has the best validation accuracy: 88.3 %")
    assert comparison.arms[0].chosen.gap == pytest.approx(0.85 - 0.842, abs=1e-3), "both of one view"


@pytest.mark.parametrize("views", ["flip", "flip_crops"])
def test_with_records_that_lack_the_accuracy_with_tta_all_are_ranked_without_it(tmp_path, views):
    for seed in (1, 2):
        for one in VIEWS:
            leave_views(tmp_path, one, seed, **({"val_accuracy_tta": None} if one == views else {}))
    comparison = compare(tmp_path)
    assert {arm.chosen.val_accuracy for arm in comparison.arms} == {0.842}
    said = [line for line in unplanned(comparison.notices) if "without test-time augmentation" in line]
    assert len(said) == 1
    assert f"because the records of {views}1, {views}2 lack" in said[0]


def test_older_records_without_tta_are_ranked_by_their_plain_accuracy(tmp_path):
    for seed in (1, 2):
        for views in VIEWS:
            leave_views(tmp_path, views, seed, **({"val_accuracy_tta": None} if views == "1" else {}))
    comparison = compare(tmp_path)
    assert [arm.chosen.val_accuracy for arm in comparison.arms] == pytest.approx([0.883, 0.842, 0.825])
    assert not any("test-time augmentation" in line for line in unplanned(comparison.notices))


@pytest.mark.parametrize("name", ["0.001", "1e-3", "optim.lr=0.001", "optim.lr=.001", "lr=0.001"])
def test_an_arm_of_numbers_is_labelled_with_its_key_and_can_be_named_by_its_value(tmp_path, name):
    for seed in (1, 2):
        for rate in (0.001, 0.01):
            typed = {"optim.lr": rate, "seed": seed}
            leave_run(tmp_path, f"{rate}-{seed}", typed, right(0.9 + rate, seed=seed))
    comparison = compare(tmp_path, baseline=name)
    assert {arm.label for arm in comparison.arms} == {"optim.lr=0.001", "optim.lr=0.01"}
    assert comparison.baseline == "optim.lr=0.001"
    with pytest.raises(
        UserError, match=r"lr_scale=0.001 is not an arm: choose one of optim\.lr=0\.01; optim\.lr=0\.001"
    ):
        compare(tmp_path, baseline="lr_scale=0.001")


def test_a_file_name_alone_is_the_label_where_it_is_clear(tmp_path):
    for seed in (1, 2):
        for without in ("nothing", "mixing"):
            leave_run(tmp_path, f"{without}{seed}", {"without": without, "seed": seed}, right(0.9, seed=seed))
    assert {arm.label for arm in compare(tmp_path).arms} == {"nothing", "mixing"}


GROUPS = {path.name for path in conf_folder().iterdir() if path.is_dir()}


@pytest.mark.parametrize("group", sorted(GROUPS - {"hydra", "logger", "study"}))  # which change no result
def test_the_name_of_a_file_of_any_group_stands_alone(tmp_path, group):
    for seed in (1, 2):
        for name in ("this", "that"):
            leave_run(tmp_path, f"{name}{seed}", {group: name, "seed": seed}, right(0.9, seed=seed))
    assert {arm.label for arm in compare(tmp_path).arms} == {"this", "that"}


def test_equal_accuracies_tie_whichever_key_holds_them(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.8, val_accuracy=float(np.float32(0.3)))
        leave(tmp_path, "adam", seed, 0.8, val_accuracy=float(np.float32(0.3)), val_accuracy_tta=0.3)
    assert answer(compare(tmp_path))[0].startswith("adam, sgd tie for the best validation accuracy: 30.0 %")


def test_runs_of_another_package_version_give_a_notice(tmp_path):
    for seed, version in ((1, "0.1.0"), (2, "0.2.0")):
        leave(tmp_path, "sgd", seed, 0.8, package_version=version, git_commit=None)
    assert "package version: 0.1.0 (all runs), 0.2.0 (all runs)" in unplanned(compare(tmp_path).notices)


def test_with_too_many_arms_the_verdicts_with_the_leader_equal_those_from_all_pairs(tmp_path, monkeypatch):
    """The variance of each arm is determined by all pairs, or by those with the leader and a chain of the others."""
    rng = np.random.default_rng(4)
    images = world(rng, 300)
    for number in range(12):
        shift = 1.5 if number == 0 else 0.0
        for seed, row in enumerate(table(rng, images, 3, 0.3, shift), start=1):
            typed = {"lr_scale": number, "seed": seed}
            leave_run(tmp_path, f"{number}-{seed}", typed, row > 0, val_accuracy=0.9 - number / 100)
    whole = {pair.b: pair for pair in compare(tmp_path).pairs if pair.a == "lr_scale=0"}
    monkeypatch.setattr("intel_scenes.studies.pairs.MAX_ARMS", 10)
    comparison = compare(tmp_path)
    assert {pair.a for pair in comparison.pairs} == {"lr_scale=0"}
    for pair in comparison.pairs:
        assert pair.estimate.variance == pytest.approx(whole[pair.b].estimate.variance, rel=0.5)
    assert "more than 10 arms: each is compared with lr_scale=0 only" in notes(comparison.notices)


def test_an_arm_without_predictions_leads_and_the_others_are_compared(tmp_path):
    for seed in (1, 2, 3):
        (leave(tmp_path, "nadam", seed, 0.9, val_accuracy=0.99) / record.PREDICTIONS).unlink()
        leave(tmp_path, "sgd", seed, 0.95, val_accuracy=0.9)
        leave(tmp_path, "adam", seed, 0.5, val_accuracy=0.8)
    comparison = compare(tmp_path)
    assert (comparison.arms[0].label, comparison.reference) == ("nadam", "sgd")
    assert any(line.startswith("Significantly worse than sgd: adam (-") for line in answer(comparison))
    assert any(
        line.startswith("nadam has no predictions, so nothing is compared") for line in problems(comparison.notices)
    )
