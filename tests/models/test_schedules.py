import math
from collections.abc import Callable
from functools import partial

import hydra
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from intel_scenes.models.schedules import inverse_sqrt, multistep, onecycle, warmup_cosine, warmup_stable_decay
from tests.small import resolved

FACTORS: dict[str, Callable[..., float]] = {
    "cosine": partial(warmup_cosine, warmup_fraction=0.0),
    "warmup_cosine": partial(warmup_cosine, warmup_fraction=0.1),
    "long warmup": partial(warmup_cosine, warmup_fraction=0.95),
    "wsd": partial(warmup_stable_decay, warmup_fraction=0.05, decay_fraction=0.2),
    "only warmup and decay": partial(warmup_stable_decay, warmup_fraction=0.5, decay_fraction=0.5),
    "inverse_sqrt": partial(inverse_sqrt, warmup_fraction=0.05),
    "inverse_sqrt without warmup": partial(inverse_sqrt, warmup_fraction=0.0),
    "multistep": partial(multistep, milestones=[0.5, 0.75], gamma=0.1),
}


def factors(schedule: Callable[..., float], num_steps: int = 10) -> list[float]:
    return [schedule(step, num_steps=num_steps) for step in range(num_steps)]


def optimizer(*rates: float) -> Optimizer:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], momentum=0.9)


def rates(scheduler: LRScheduler, num_steps: int) -> list[list[float]]:
    found = []
    for _ in range(num_steps):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_warmup_cosine_rises_in_thirds_and_falls_along_half_a_cosine() -> None:
    # two of ten steps rise; (1 + cos(k pi / 8)) / 2 for k = 0..7
    falling = [1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602]
    assert factors(partial(warmup_cosine, warmup_fraction=0.2)) == pytest.approx([1 / 3, 2 / 3, *falling], abs=1e-7)


def test_without_warmup_the_cosine_is_torchs_own() -> None:
    ours = rates(LambdaLR(optimizer(0.5), partial(warmup_cosine, num_steps=10, warmup_fraction=0.0)), 10)
    theirs = rates(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(0.5), T_max=10), 10)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs))


def test_warmup_stable_decay_rises_stays_and_falls_in_equal_parts() -> None:
    schedule = partial(warmup_stable_decay, warmup_fraction=0.2, decay_fraction=0.3)
    assert factors(schedule) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_warmup_stable_decay_without_both_is_constant() -> None:
    assert factors(partial(warmup_stable_decay, warmup_fraction=0.0, decay_fraction=0.0)) == [1.0] * 10


def test_inverse_sqrt_rises_to_its_time_scale_and_falls_as_one_over_the_root() -> None:
    # two of ten steps rise to the third; then the root of 3 / n for n = 4..10
    falling = [0.8660254, 0.7745967, 0.7071068, 0.6546537, 0.6123724, 0.5773503, 0.5477226]
    assert factors(partial(inverse_sqrt, warmup_fraction=0.2)) == pytest.approx([1 / 3, 2 / 3, 1, *falling], abs=1e-7)


def test_inverse_sqrt_without_warmup_falls_from_the_first_step() -> None:
    assert factors(partial(inverse_sqrt, warmup_fraction=0.0), 9)[::4] == pytest.approx([1, 1 / math.sqrt(5), 1 / 3])


def test_inverse_sqrt_after_warmup_is_that_of_vaswani_et_al_with_its_peak_at_one() -> None:
    width, warmup = 512, 4  # in their equation 3, which counts steps from 1 and has no fixed end
    theirs = [width**-0.5 * min(n**-0.5, n * warmup**-1.5) for n in range(1, 31)]
    ours = factors(partial(inverse_sqrt, warmup_fraction=0.1), 30)
    assert ours == pytest.approx([factor / max(theirs) for factor in theirs])


# Of ten steps at a rate of 0.5 in the file: the first, the sixth, and the last; what is left once all are taken.
@pytest.mark.parametrize(
    ("overrides", "first", "middle", "last", "left"),
    [
        (("scheduler=linear",), 0.5, 0.25, 0.05, 0.0),
        (("scheduler=linear", "scheduler.factory.end_factor=0.1"), 0.5, 0.275, 0.095, 0.05),
        (("scheduler=power",), 0.5, 0.125, 0.005, 0.0),
        (("scheduler=power", "scheduler.factory.power=1"), 0.5, 0.25, 0.05, 0.0),
        (("scheduler=power", "scheduler.factory.power=0.5"), 0.5, 0.3535534, 0.1581139, 0.0),
        (("scheduler=power", "scheduler.factory.power=0"), 0.5, 0.5, 0.5, 0.5),
        # a twentieth of ten steps is none
        (("scheduler=inverse_sqrt",), 0.5, 0.2041241, 0.1581139, 0.1507557),
    ],
)
def test_a_file_has_the_rates_that_its_comment_says(
    overrides: tuple[str, ...], first: float, middle: float, last: float, left: float
) -> None:
    config = resolved(*overrides, num_steps=10)
    scheduler = hydra.utils.instantiate(config.scheduler.factory, _convert_="all")(optimizer(0.5, 0.05))
    found = rates(scheduler, 10)
    assert [of_first for of_first, _ in (found[0], found[5], found[9])] == pytest.approx([first, middle, last])
    assert scheduler.get_last_lr() == pytest.approx([left, left / 10], rel=1e-6, abs=1e-12)
    assert all(of_second == pytest.approx(of_first / 10) for of_first, of_second in found)


def test_multistep_multiplies_at_each_milestone() -> None:
    expected = [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert factors(partial(multistep, milestones=[0.8, 0.5], gamma=0.1)) == pytest.approx(expected)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10, 1000])
@pytest.mark.parametrize("name", FACTORS)
def test_no_factor_of_the_training_is_zero_negative_or_above_one(name: str, num_steps: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(FACTORS[name], num_steps))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10, 1000])
@pytest.mark.parametrize("name", FACTORS)
def test_a_scheduler_can_be_stepped_after_every_step_the_last_one_too(name: str, num_steps: int) -> None:
    scheduler = LambdaLR(optimizer(0.1), partial(FACTORS[name], num_steps=num_steps))
    rates(scheduler, num_steps)
    assert scheduler.last_epoch == num_steps


def test_the_first_step_of_a_short_training_has_passed_no_milestone() -> None:
    assert factors(FACTORS["multistep"], 1) == [1.0]
    assert factors(partial(multistep, milestones=[0.25], gamma=0.1), 2) == [1.0, 0.1]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_outside_of_the_training_is_refused_by_name(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"warmup_fraction=\S+ must be at least 0 and below 1"):
        warmup_cosine(0, num_steps=10, warmup_fraction=fraction)
    with pytest.raises(ValueError, match=r"warmup_fraction=\S+ must be"):
        inverse_sqrt(0, num_steps=10, warmup_fraction=fraction)
    with pytest.raises(ValueError, match=r"warmup_fraction=\S+ must be"):
        warmup_stable_decay(0, num_steps=10, warmup_fraction=fraction, decay_fraction=0.1)
    with pytest.raises(ValueError, match=r"decay_fraction=\S+ must be"):
        warmup_stable_decay(0, num_steps=10, warmup_fraction=0.1, decay_fraction=fraction)


@pytest.mark.parametrize("num_steps", [1, 3, 10, 1000])
def test_warmup_and_decay_longer_than_the_training_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=r"warmup_fraction=0\.6 and decay_fraction=0\.45 add up to more than 1"):
        warmup_stable_decay(0, num_steps=num_steps, warmup_fraction=0.6, decay_fraction=0.45)


@pytest.mark.parametrize("milestones", [[0.0], [1.0], [0.5, 1.5], [-0.5]])
def test_milestones_outside_of_the_training_are_refused(milestones: list[float]) -> None:
    with pytest.raises(ValueError, match=r"milestones=.* must lie between 0 and 1"):
        multistep(0, num_steps=10, milestones=milestones, gamma=0.1)


def test_onecycle_of_one_group_is_torchs_own() -> None:
    ours = rates(onecycle(optimizer(0.4), num_steps=10, pct_start=0.3, div_factor=25.0), 10)
    options = {"max_lr": 0.4, "total_steps": 10, "pct_start": 0.3, "div_factor": 25.0, "cycle_momentum": False}
    theirs = rates(OneCycleLR(optimizer(0.4), **options), 10)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs))


def test_onecycle_starts_peaks_and_ends_where_the_paper_has_it() -> None:
    found = [rate for (rate,) in rates(onecycle(optimizer(0.4), num_steps=10, pct_start=0.3, div_factor=25.0), 10)]
    assert found[0] == pytest.approx(0.4 / 25)
    assert found[2] == pytest.approx(0.4)  # the last of three rising steps
    assert found.index(max(found)) == 2
    assert found[9] == pytest.approx(0.4 / 25 / 1e4)  # torch's final_div_factor


def test_onecycle_keeps_the_peak_of_each_group() -> None:
    found = rates(onecycle(optimizer(0.4, 0.04, 4.0), num_steps=10, pct_start=0.3, div_factor=25.0), 10)
    assert [max(of_group) for of_group in zip(*found, strict=True)] == pytest.approx([0.4, 0.04, 4.0])
    for first, second, third in found:
        assert (first / second, third / first) == (pytest.approx(10), pytest.approx(10))


def test_onecycle_does_not_cycle_the_momentum() -> None:
    sgd = optimizer(0.4)
    scheduler = onecycle(sgd, num_steps=10, pct_start=0.3, div_factor=25.0)
    for _ in range(10):
        assert sgd.param_groups[0]["momentum"] == 0.9
        sgd.step()
        scheduler.step()
    adam = Adam([nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.8, 0.99))
    onecycle(adam, num_steps=10, pct_start=0.3, div_factor=25.0)
    assert adam.param_groups[0]["betas"] == (0.8, 0.99)


@pytest.mark.parametrize("pct_start", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 100])
def test_onecycle_can_be_stepped_after_every_step_and_its_rates_are_above_zero(
    num_steps: int, pct_start: float
) -> None:
    found = rates(onecycle(optimizer(0.4), num_steps=num_steps, pct_start=pct_start, div_factor=25.0), num_steps)
    assert all(0 < rate <= 0.4 * (1 + 1e-9) for (rate,) in found)
