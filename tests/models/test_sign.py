from collections.abc import Iterator
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from intel_scenes.models.sign import SignSGD


def gradients(num_steps: int) -> Iterator[list[Tensor]]:
    """Gradients of a matrix and a vector at each step."""
    generator = torch.Generator().manual_seed(4)
    for _ in range(num_steps):
        yield [torch.randn(4, 3, generator=generator), torch.randn(5, generator=generator)]


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(5)
    return [nn.Parameter(torch.randn(4, 3, generator=generator)), nn.Parameter(torch.randn(5, generator=generator))]


def step(optimizer: Optimizer, parameters: list[nn.Parameter], slopes: list[Tensor]) -> None:
    for parameter, slope in zip(parameters, slopes, strict=True):
        parameter.grad = slope.clone()
    optimizer.step()


def path(slopes: list[list[float]], start: list[float], **options: Any) -> list[list[float]]:
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer, found = SignSGD([weight], **options), []
    for slope in slopes:
        step(optimizer, [weight], [torch.tensor(slope, dtype=torch.float32)])
        found.append(weight.tolist())
    return found


def test_three_steps_are_those_computed_by_hand() -> None:
    # The gradient with the penalty is the slope plus half the weight; half the last buffer is added to it.
    # weights (1, -2, 0):      slopes (-1, 3, 0)     -> buffer (-0.5, 2, 0),          signs (-, +, 0)
    # weights (1.1, -2.1, 0):  slopes (0, 0, 0.1)    -> buffer (0.3, -0.05, 0.1),     signs (+, -, +)
    # weights (1, -2, -0.1):   slopes (-1, 0.9, 0.2) -> buffer (-0.35, -0.125, 0.2),  signs (-, -, +)
    found = path([[-1, 3, 0], [0, 0, 0.1], [-1, 0.9, 0.2]], [1, -2, 0], lr=0.1, momentum=0.5, weight_decay=0.5)
    assert found[0] == pytest.approx([1.1, -2.1, 0.0])
    assert found[1] == pytest.approx([1.0, -2.0, -0.1])
    assert found[2] == pytest.approx([1.1, -1.9, -0.2])


def test_without_momentum_each_step_takes_the_sign_of_its_own_gradient() -> None:
    found = path([[-5, 0.1], [1, 0.1], [0, -9]], [0, 0], lr=0.25, momentum=0.0)
    assert found == [[0.25, -0.25], [0.0, -0.5], [0.0, -0.25]]


def test_the_step_is_the_sign_of_the_momentum_buffer_of_torchs_sgd() -> None:
    ours, theirs = weights(), weights()
    optimizer = SignSGD(ours, lr=0.01, momentum=0.8, weight_decay=0.3)
    sgd = SGD(theirs, lr=0.0, momentum=0.8, weight_decay=0.3)
    for slopes in gradients(6):
        before = [weight.detach().clone() for weight in ours]
        step(optimizer, ours, slopes)
        step(sgd, theirs, slopes)
        for weight, old, other in zip(ours, before, theirs, strict=True):
            torch.testing.assert_close(weight, old - 0.01 * sgd.state[other]["momentum_buffer"].sign())
            other.data.copy_(weight)  # a rate of zero did not move it


def test_without_weight_decay_it_is_lion_with_equal_betas() -> None:
    ours, theirs = weights(), weights()
    optimizer = SignSGD(ours, lr=0.01, momentum=0.9)
    lion = timm.optim.Lion(theirs, lr=0.01, betas=(0.9, 0.9))
    for slopes in gradients(6):
        step(optimizer, ours, slopes)
        step(lion, theirs, slopes)
    torch.testing.assert_close(ours, theirs)


def test_a_group_keeps_its_own_numbers_and_weights_without_a_gradient_stay() -> None:
    first, second, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    groups: list[dict[str, Any]] = [
        {"params": [first, frozen], "lr": 0.5},
        {"params": [second], "lr": 0.25, "weight_decay": 0.0},
    ]
    optimizer = SignSGD(groups, lr=1.0, weight_decay=2.0)
    for parameter in (first, second):
        parameter.grad = torch.tensor([-1.0, 1.0])
    optimizer.step()
    # 2 * 1 - 1 is above zero, so the penalty turns the first weight round
    assert (first.tolist(), second.tolist(), frozen.tolist()) == ([0.5, 0.5], [1.25, 0.75], [1.0, 1.0])


def test_an_optimizer_that_continues_from_its_state_takes_the_same_steps() -> None:
    whole, halved = weights(), weights()
    first, second = SignSGD(whole, lr=0.01, momentum=0.9), SignSGD(halved, lr=0.01, momentum=0.9)
    for number, slopes in enumerate(gradients(6)):
        if number == 3:
            state = second.state_dict()
            second = SignSGD(halved, lr=7.0, momentum=0.1)
            second.load_state_dict(state)
        step(first, whole, slopes)
        step(second, halved, slopes)
    assert all(torch.equal(one, other) for one, other in zip(whole, halved, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": 0.1, "momentum": 1.0}, "Invalid momentum value: 1.0"),
        ({"lr": 0.1, "momentum": -0.1}, "Invalid momentum value: -0.1"),
        ({"lr": 0.1, "weight_decay": float("nan")}, "Invalid weight_decay value: nan"),
    ],
)
def test_numbers_out_of_range_are_refused_as_torch_refuses_them(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignSGD(weights(), **options)
