"""The runner of the open question: its cells, and the runs that it still has to make."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from intel_scenes.config import ModelConfig
from intel_scenes.models import libraries
from intel_scenes.models.norms import batch_norms
from intel_scenes.record import Averages
from results.open_question import run, thin, trials_table
from results.open_question.runs import read_trials
from tests.results.simulated_question import leave_run

SGD = run.Place("sgd", "16", "constant", 20)
IN_NETWORK = run.Place("sgd", "64", "constant", 2, model=run.WITH_NORMS, weight_decay=run.STRONG)


def test_every_cell_has_its_own_folder_and_its_own_overrides() -> None:
    every = run.places(Path("thinned.txt"))
    assert len({place.folder(Path(), 0.5, 1) for place in every}) == len(every)
    assert len({tuple(place.overrides) for place in every}) == len(every)
    assert not [place for place in every if (place.schedule, place.batch_size) == ("growing", "full")]


def test_the_first_rates_are_four_powers_of_two() -> None:
    assert SGD.first_rates == [2**-11, 2**-10, 2**-9, 2**-8]
    assert run.Place("sgd", "1024", "constant", 336).first_rates[0] == 2**-9  # at equal steps a grid of its own
    assert run.Place("sgd", "full", "constant", 20).first_rates[0] == 2**-8
    assert run.Place("sgd_plain", "64", "constant", 240).first_rates[0] == 2**-8
    assert run.Place("sgd", "64", "constant", 240).first_rates[0] == 2**-11


def test_a_rate_that_diverged_after_some_epochs_is_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AVERAGES", (0.1,))
    folder = SGD.folder(tmp_path, 1.0, 1)
    leave_run(folder, excess=0.1, averaged=0.05)
    assert run.criteria(SGD, run.Made(tmp_path), 1.0)[1::2] == pytest.approx([0.4 * 2 / 3, 0.35 * 2 / 3])
    leave_run(SGD.folder(tmp_path, 2.0, 1), status="failed", error="the loss is not finite at step 3", averaged=0.05)
    assert run.criteria(SGD, run.Made(tmp_path), 2.0) == [math.inf] * 4


@pytest.mark.parametrize(
    ("summary", "is_trained"),
    [
        ({"status": "completed"}, False),
        ({"status": "failed", "error": "the loss is not finite at step 3"}, False),
        ({"status": "failed", "error": "no space left on device"}, True),
        ({"status": "interrupted"}, True),
    ],
)
def test_only_complete_and_diverged_runs_are_not_repeated(
    summary: dict[str, object], is_trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(run, "start_run", lambda overrides, folder, quiet: started.append(folder))
    folder = leave_run(SGD.folder(tmp_path, 1.0, 1), **summary)  # type: ignore[arg-type]
    run.train(SGD, 1.0, 1, run.Made(tmp_path), Path("weights"))
    assert started == [folder] * is_trained


def test_rates_are_tried_until_the_best_one_of_the_weights_and_of_each_average_is_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def criteria(place: run.Place, made: run.Made, lr: float) -> list[float]:
        tried.append(lr)
        return [abs(math.log2(lr / best)) for best in (2**-10, 2**-10, 2**-6)]  # loss, validation loss, an average

    monkeypatch.setattr(run, "train", lambda *arguments: None)
    monkeypatch.setattr(run, "criteria", criteria)
    run.screen(run.Made(tmp_path), Path("weights"), SGD)
    assert tried == [2.0**exponent for exponent in (-11, -10, -9, -8, -7, -6, -5)]


def test_a_chosen_rate_is_confirmed_on_fresh_seeds(tmp_path: Path) -> None:
    for lr, excess, averaged in ((1.0, 0.2, 0.2), (2.0, 0.1, 0.1), (4.0, 0.2, 0.05), (8.0, 0.4, 0.2)):
        for seed in (1, 2):
            leave_run(
                SGD.folder(tmp_path, lr, seed),
                lr=lr,
                seed=seed,
                excess=excess,
                averaged=averaged,
                settings={"optim.weight_decay": SGD.weight_decay},
            )
    others = [run.Place("sgd", "16", "constant", 20, Path("thinned.txt")), replace(SGD, weight_decay=0.5)]
    for num_seeds in (3, 5):
        expected = [(SGD, lr, seed) for lr in (2.0, 4.0) for seed in range(3, 2 + num_seeds)]
        assert run.confirming(run.Made(tmp_path), [*others, SGD], num_seeds) == expected


def test_runs_in_the_table_of_an_analysis_are_not_repeated_and_choose_the_same_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"optim.weight_decay": SGD.weight_decay, "averages": list(run.AVERAGES)}
    for lr, excess in zip(SGD.first_rates, (0.3, 0.1, 0.2, 0.3), strict=True):
        folder = leave_run(SGD.folder(tmp_path / "study", lr, 1), lr=lr, excess=excess, settings=settings)
        rows = [row for row in Averages.read(folder).rows if row.window == 0]
        Averages(tuple(replace(row, window=window) for row in rows for window in (0.0, *run.AVERAGES))).write(folder)
    recorded = run.Made(tmp_path / "study")
    chosen = run.confirming(recorded, [SGD], 2)
    trials_table.write(read_trials([tmp_path / "study"]), tmp_path)
    known = run.Made(tmp_path / "empty", run._known(tmp_path))
    assert run.confirming(known, [SGD], 2) == chosen != []
    assert [run.criteria(SGD, known, lr) for lr in SGD.first_rates] == [
        pytest.approx(run.criteria(SGD, recorded, lr)) for lr in SGD.first_rates
    ]
    monkeypatch.setattr(run, "start_run", lambda *_, **__: pytest.fail("a known run was repeated"))
    run.train(SGD, SGD.first_rates[0], 1, known, Path("weights"))


def test_a_network_is_trained_from_random_weights_on_the_loss_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = []
    monkeypatch.setattr(run, "start_run", lambda typed, **_: overrides.extend(typed))
    run.train(IN_NETWORK, 0.5, 1, run.Made(tmp_path), Path("weights"))
    assert not [override for override in overrides if override.startswith("model.weights")]
    assert {"epochs=2", "data.passes_per_epoch=1", "optim.weight_decay=0.01", "averages=[1]"} <= set(overrides)
    settings = {"recipe.trained": "all"}
    leave_run(IN_NETWORK.folder(tmp_path, 1.0, 1), excess=0.1, averaged=0.05, settings=settings)
    assert run.criteria(IN_NETWORK, run.Made(tmp_path), 1.0) == pytest.approx([0.4 * 2 / 3, 0.4 * 2 / 3])
    part = replace(IN_NETWORK, weight_decay=run.WEAK)
    assert (part.windows, replace(part, schedule="linear").windows) == ((0.1, 0.3), ())


def test_the_network_without_norms_is_the_same_but_for_the_scale_of_each_channel() -> None:
    model = ModelConfig(name="any", weights=None, library="custom", _target_=run.WITHOUT_NORMS)
    torch.manual_seed(0)
    bare = libraries.build(model, 6, weights=None, image_size=32)
    normed = libraries.build(ModelConfig(name=run.WITH_NORMS, weights=None), 6, weights=None, image_size=32)
    assert not list(batch_norms(bare))
    convolutions = [module for module in normed.modules() if isinstance(module, torch.nn.Conv2d)]
    scales = sum(convolution.out_channels for convolution in convolutions)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (normed, bare)]
    assert sizes[0] - sizes[1] == scales
    images = torch.randn(64, 3, 32, 32)
    features: list[torch.Tensor] = []
    bare.layer3.register_forward_hook(lambda _, __, output: features.append(output))
    bare(images).logsumexp(1).sum().backward()
    assert 0.3 < features[0].square().mean() < 3  # torch's own weights: 0.006, He et al.: 20 to 30
    assert all(parameter.grad.abs().sum() > 0 for parameter in bare.parameters())


def test_the_plan_counts_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "places", lambda exclude: [SGD, IN_NETWORK])
    both = ["screen", "confirm"]
    guess = run.USUAL_RATES + run.USUAL_CHOSEN * 3
    assert Counter(run.expected(run.Made(tmp_path), [SGD, IN_NETWORK], both, 3)) == {SGD: guess, IN_NETWORK: guess}
    for lr, excess in zip(SGD.first_rates, (0.3, 0.1, 0.2, 0.3), strict=True):
        settings = {"optim.weight_decay": SGD.weight_decay}
        leave_run(SGD.folder(tmp_path, lr, 1), lr=lr, excess=excess, settings=settings)
    leave_run(IN_NETWORK.folder(tmp_path, IN_NETWORK.first_rates[0], 1))
    assert Counter(run.expected(run.Made(tmp_path), [SGD, IN_NETWORK], both, 3)) == {SGD: 3, IN_NETWORK: guess - 1}
    assert Counter(run.expected(run.Made(tmp_path), [SGD, IN_NETWORK], ["confirm"], 3)) == {
        SGD: 3,
        IN_NETWORK: guess - 7,
    }
    run.main(["FILE", str(tmp_path), "--plan", "--parts", "features", "--seeds", "3"])
    hours = 3 * SGD.seconds / 3600
    expected = f"1 cells, about 3 runs and {hours:.1f} hours of one core, {hours / 2:.1f} hours with 2 workers\n"
    assert capsys.readouterr().out == expected


def test_the_class_of_rank_k_keeps_a_share_of_1_over_k(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for number in range(12):
            (tmp_path / name / f"{number}.jpg").touch()
    left_out = thin.left_out(tmp_path)
    assert [sum(path.startswith(f"{name}/") for path in left_out) for name in ("a", "b", "c")] == [0, 6, 8]
    assert len(set(left_out)) == 14
    assert all((tmp_path / path).exists() for path in left_out)
