"""What is odd in a study: each stage tells of what it met by a kind and values, which `render.sentences` words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What is odd; the comment names the values of its notice."""

    # Records that are left out
    UNREADABLE = "a run whose record cannot be read"  # reason
    DUPLICATE = "two folders of one run"  # other
    OTHER_IMAGES = "runs of other images"  # num_all, most
    OTHER_METRIC = "runs of another primary metric"  # num_all, most
    OTHER_SETTINGS = "runs that differ from the rest of their configuration"  # configuration
    NO_PREDICTIONS = "predictions that cannot be compared"  # reason
    EQUAL_PREDICTIONS = "two seeds of a configuration that predict the same"  # pairs
    # Runs that are missing
    MISSING = "planned runs without a record"  # num_all
    LOST = "a configuration without a completed run"  # configuration, num_failed
    FAILED_CONFIRMING = "confirming runs that failed"  # arm, num_all
    FAILED = "failed runs of an arm"  # arm, num_failed, num_all
    UNFINISHED = "runs that are not finished"
    # What weakens a comparison
    GUESSING = "arms that are no better than guessing"  # arms
    WITHOUT_TTA = "records that lack the validation accuracy with test-time augmentation"
    FEWER_SEEDS = "a better configuration with fewer seeds"  # arm, most
    AT_EDGE = "a best value at the edge of what was tried"  # arms, edge
    FEWER_TRIALS = "an arm with fewer trials"  # arm, trials, runs, most_trials, most_runs
    NOT_ON_VALIDATION = "an arm that is not compared on validation"  # arm, reason
    # Unplanned differences
    DIFFERENT = "a setting that is no factor and differs"  # setting, arms (of each value)
    CONFOUNDED = "two factors that change together"  # one, other
    UNCOMMITTED = "runs of code with uncommitted changes"  # num_all
    CHOICE_CHANGED = "a confirmed configuration that validation would no longer choose"  # arm, confirmed, chosen
    SAME_SEEDS_CHOSE = "tuned arms that are tested on the seeds that chose"  # tuned
    CROSS_FITTED = "test accuracies with the choice made on the other seeds"  # accuracies, is_balanced
    REPEATED_SEED = "runs of a seed that the configuration has already"  # seed, other
    CONTRADICTORY = "a validation accuracy that is not that of the predictions"  # key, recorded, predicted
    # What is good to know
    NO_EFFECT = "runs of two arms that predict the same"  # pairs
    TWINS = "planned runs that are the same as others"  # twins
    ONLY_LEADER = "too many arms for all pairs"  # most, leader
    NAMED_BY_RECIPE = "arms that are named after their recipe alone"  # recipes
    SUSPECT = "a general method below its special case"  # arms
    EFFECTS_OF_TEST_ALONE = "a factorial study whose effects on some metrics are unknown"  # metrics, reason
    NO_EFFECTS = "too many arms for effects of factors"  # most
    NOT_BRACKETED = "a tuned factor with two values, of which one is best"  # arm, key, best
    NEARLY_EQUAL_IMAGES = "nearly equal test images that count as independent"
    NOT_COMPARED = "the leader or a baseline that cannot be compared"  # arm, is_unconfirmed
    BASELINE_NAMED_LATE = "a baseline that was named after results were there"  # baseline, date, num_completed
    UNPAIRED = "pairs of arms whose seeds are not paired"  # pairs
    CROSSING = "arms whose order depends on the number of trials"  # crossings: ahead, behind, trials; is_balanced
    PARTLY_PAIRED = "pairs of arms that are compared on the seeds that both have"  # pairs
    IF_FAILED_GUESSED = "a verdict that failed runs could change"  # a, b, worst, verdict


@dataclass(frozen=True)
class Notice:
    """Something odd that a stage met.

    Attributes:
        kind: What it is.
        runs: Names of the runs that it is about.
        values: What the sentence says beside them.
    """

    kind: Kind
    runs: tuple[str, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
