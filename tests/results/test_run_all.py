"""The runner of the open question: its cells, and the runs that it still has to make."""

import math
from pathlib import Path

import pytest

from results.open_question import run
from tests.results.simulated_question import leave_run

SGD = run.Place("sgd", "16", "constant", 20)


def leave_rates(study: Path, best: float, best_of_average: float, seeds: tuple[int, ...] = (1,)) -> None:
    """Write runs at four rates, of which one is best for the weights and one for their average."""
    for lr in (1.0, 2.0, 4.0, 8.0):
        for seed in seeds:
            excess, averaged = (0.1 * (1 + abs(math.log2(lr / rate))) for rate in (best, best_of_average))
            leave_run(SGD.folder(study, lr, seed), lr=lr, seed=seed, excess=excess, averaged=averaged / 2)


def test_every_cell_has_its_own_folder_and_its_own_overrides() -> None:
    every = run.places(Path("thinned.txt"))
    assert len({place.folder(Path(), 0.5, 1) for place in every}) == len(every)
    assert len({tuple(place.overrides) for place in every}) == len(every)
    assert not [place for place in every if (place.schedule, place.batch_size) == ("growing", "full")]


def test_the_first_rates_are_four_powers_of_two() -> None:
    assert SGD.first_rates == [2**-11, 2**-10, 2**-9, 2**-8]
    assert run.Place("sgd", "1024", "constant", 336).first_rates[0] == 2**-9  # at equal steps a grid of its own
    assert run.Place("sgd", "full", "constant", 20).first_rates[0] == 2**-8


def test_a_rate_that_diverged_after_some_epochs_is_the_worst(tmp_path: Path) -> None:
    folder = SGD.folder(tmp_path, 1.0, 1)
    leave_run(folder, excess=0.1)
    assert run.criteria(SGD, tmp_path, 1.0)[1] == pytest.approx(0.4 * 2 / 3)
    leave_run(SGD.folder(tmp_path, 2.0, 1), lr=2.0, status="failed", error="the loss is not finite at step 3")
    assert run.criteria(SGD, tmp_path, 2.0) == (math.inf, math.inf)


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
    run.train(SGD, 1.0, 1, tmp_path, Path("weights"))
    assert started == [folder] * is_trained


def test_a_grid_is_extended_for_the_averages_and_confirmed_afterwards(tmp_path: Path) -> None:
    leave_rates(tmp_path, best=2.0, best_of_average=8.0)
    assert run.extending(tmp_path, [SGD]) == [(SGD, 16.0, 1)]
    assert run.confirming(tmp_path, [SGD]) == [(SGD, 2.0, seed) for seed in (2, 3, 4, 5, 6)]


def test_a_chosen_rate_is_confirmed_on_fresh_seeds(tmp_path: Path) -> None:
    leave_rates(tmp_path, best=2.0, best_of_average=4.0, seeds=(1, 2))
    assert run.extending(tmp_path, [SGD]) == []
    assert run.confirming(tmp_path, [SGD]) == [(SGD, lr, seed) for lr in (2.0, 4.0) for seed in (3, 4, 5, 6)]
