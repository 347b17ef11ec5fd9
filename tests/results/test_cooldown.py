"""Decay in the last fifth beside linear decay, on simulated trials whose excess is known."""

from results.open_question import cooldown
from tests.results.simulated_question import study, trials


def test_the_share_of_the_gain_and_what_is_left_are_those_of_the_simulated_excess() -> None:
    # Of an excess of 0.010 linear decay removes 0.008 and the late decay 0.006: three quarters, and 0.002 is left.
    cells = [("constant", 0.010), ("linear", 0.002), ("wsd", 0.004)]
    simulated = study(*(trials("sgd", 16, how, excess, spread=0) for how, excess in cells))
    (training,) = (line for line in cooldown.rows(simulated) if line.startswith("training"))
    assert training == (
        "training, sgd, 16, samples: wsd gains 6.00 (6.00 to 6.00), 75% of linear decay, which ends "
        "2.00 (2.00 to 2.00) better"
    )


def test_a_cell_without_late_decay_has_no_line() -> None:
    cells = [("constant", 0.010), ("linear", 0.002)]
    assert not cooldown.rows(study(*(trials("sgd", 16, how, value) for how, value in cells)))
