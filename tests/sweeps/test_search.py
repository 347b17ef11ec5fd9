import pytest

from intel_scenes.errors import UserError
from intel_scenes.record import Interval
from intel_scenes.sweeps.overrides import parsed
from intel_scenes.sweeps.search import interval_of, sampled


def search(*texts: str, trials: int) -> list[list[float]]:
    points = sampled(list(map(parsed, texts)), trials)
    return [[float(text.partition("=")[2]) for text in point] for point in points]


def test_a_search_covers_its_interval_evenly_on_the_scale_that_is_asked_for() -> None:
    on_logs = [value for (value,) in search("optim.lr=tag(log,interval(0.001,1))", trials=64)]
    for decade in (0.001, 0.01, 0.1):
        assert 20 <= sum(decade <= value <= 10 * decade for value in on_logs) <= 23  # a third of 64 is 21.3
    linear = [value for (value,) in search("optim.lr=interval(0,8)", trials=64)]
    for half in (0, 4):
        assert 31 <= sum(half <= value <= half + 4 for value in linear) <= 33
    whole = [value for (value,) in search("epochs=int(interval(1,4))", trials=64)]
    assert [15 <= whole.count(number) <= 17 for number in (1, 2, 3, 4)] == [True] * 4


def test_a_longer_search_begins_with_the_points_of_a_shorter_one() -> None:
    two = ("optim.lr=tag(log,interval(0.001,1))", "recipe.label_smoothing=interval(0,0.2)")
    assert search(*two, trials=16)[:5] == search(*two, trials=5)
    assert len({tuple(point) for point in search(*two, trials=16)}) == 16


@pytest.mark.parametrize("text", ["a=interval(1,1)", "a=interval(2,1)", "a=tag(log,interval(0,1))"])
def test_an_empty_interval_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="from low to high"):
        search(text, trials=4)


def test_an_interval_is_for_numbers() -> None:
    with pytest.raises(UserError, match="sets an interval, but this key chooses a file"):
        search("optim=interval(0,1)", trials=2)


def test_a_search_depends_on_no_order_of_its_intervals() -> None:
    two = ("optim.lr=interval(0,1)", "recipe.label_smoothing=interval(0,0.2)")
    assert search(*two, trials=5) == search(*reversed(two), trials=5)


def test_an_interval_is_known_by_its_ends_and_its_scale() -> None:
    assert interval_of(parsed("a=tag(log,interval(0.1,10))")) == Interval(0.1, 10, is_log=True)
    assert interval_of(parsed("a=int(interval(1,4))")) == Interval(1, 4, is_log=False)


def test_a_search_without_an_interval_is_one_point() -> None:
    assert sampled([], 3) == [[]]
