import numpy as np
import pytest

from intel_scenes.auditing.label_issues import LabelIssues, Recovery, confident_learning, flip_labels, recovery


def test_a_wrong_label_is_flagged_counted_and_ranked_first() -> None:
    """Five images of each class, all recognized with 0.9, but one of the second class bears the label of the first.

    By hand (Northcutt et al. 2021, equation 1): the thresholds are (4 * 0.9 + 0.1) / 5 = 0.74 and 0.9, so the confident
    joint is [[4, 1], [0, 5]], and one label of ten is wrong.
    """
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 6)
    found = confident_learning(labels, probabilities)
    assert np.flatnonzero(found.flagged).tolist() == [4]
    assert found.order[0] == 4
    assert found.suggested[4] == 1
    assert found.quality[4] == pytest.approx(0.1)
    assert found.confusion.tolist() == [[4, 1], [0, 5]]
    np.testing.assert_allclose(found.joint, [[0.4, 0.1], [0, 0.5]])
    assert found.noise == pytest.approx(0.1)


def test_the_given_share_of_labels_is_flipped_to_other_classes() -> None:
    labels = np.repeat([0, 1, 2], 100)
    flipped, changed = flip_labels(labels, 0.1, 3, seed=1)
    assert changed.sum() == 30
    np.testing.assert_array_equal(flipped != labels, changed)
    assert set(flipped) == {0, 1, 2}
    assert (flipped != flip_labels(labels, 0.1, 3, seed=2)[0]).any()
    assert not flip_labels(labels, 0.0, 3, seed=1)[1].any()


def test_recovery_is_measured_by_flags_and_by_rank() -> None:
    changed = np.array([True, False, True, False, False, False, False, False, False, False])
    flagged = np.array([True, True, False, True, True, False, False, False, False, False])
    nothing = np.zeros((2, 2))
    judged = LabelIssues(np.array([1, 0, 3, 4, 2, 5, 6, 7, 8, 9]), nothing, nothing, flagged, nothing, nothing)
    # One of four flagged was flipped, one of two flipped is flagged, and one of the two is among the first four.
    assert recovery(judged, changed) == Recovery(2, precision=0.25, recall=0.5, early=0.5, depth=0.4)
