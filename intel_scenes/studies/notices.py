"""Notices: what a reader of a study should know, as a kind and values that `render.sentences` turns into sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Kind of a notice; the comment names its values."""

    # Records that are left out
    UNREADABLE = "a run whose record cannot be read"  # reason
    DUPLICATE = "two folders of one run"  # other
    OTHER_IMAGES = "runs of other images"  # num_all, most
    OTHER_METRIC = "runs of another primary metric"  # num_all, most
    OTHER_SETTINGS = "runs whose settings differ from the rest of their configuration"  # configuration
    NO_PREDICTIONS = "predictions that cannot be compared"  # reason
    EQUAL_PREDICTIONS = "two seeds of a configuration with equal predictions"  # pairs
    # Runs that are missing
    MISSING = "planned runs without a record"  # num_all
    LOST = "a configuration without a completed run"  # configuration, num_failed
    FAILED_CONFIRMING = "confirming runs that failed"  # arm, num_all
    FAILED = "failed runs of an arm"  # arm, num_failed, num_all
    UNFINISHED = "runs that are not finished"
    # Limits of a comparison
    GUESSING = "arms at or below chance"  # arms
    WITHOUT_TTA = "records that lack the validation accuracy with test-time augmentation"
    FEWER_SEEDS = "a configuration with higher validation accuracy but fewer seeds"  # arm, most
    AT_EDGE = "a best value at the edge of the grid or interval"  # arms, edge
    FEWER_TRIALS = "an arm with fewer trials"  # arm, trials, runs, most_trials, most_runs
    NOT_ON_VALIDATION = "an arm that is not compared on validation"  # arm, reason
    # Unplanned differences
    DIFFERENT = "a setting that differs but is no factor"  # setting, arms (of each value)
    CONFOUNDED = "two factors that change together"  # one, other
    UNTUNED_RATES = "optimizers compared at learning rates that were not tuned"  # optimizers (of each rate)
    UNCOMMITTED = "runs of code with uncommitted changes"  # num_all
    CHOICE_CHANGED = "a confirmed configuration that validation would no longer choose"  # arm, confirmed, chosen
    SAME_SEEDS_CHOSE = "tuned arms tested on the seeds that were used for tuning"  # tuned
    CROSS_FITTED = "test accuracies with the choice made on the other seeds"  # accuracies, is_balanced
    REPEATED_SEED = "a second run of a seed of the configuration"  # seed, other
    CONTRADICTORY = "a recorded validation accuracy that contradicts the predictions"  # key, recorded, predicted
    # Good to know
    NO_EFFECT = "runs of two arms with equal predictions"  # pairs
    TWINS = "planned runs identical to others"  # twins
    ONLY_LEADER = "too many arms for all pairs"  # most, leader
    NAMED_BY_RECIPE = "arms that are named after their recipe alone"  # recipes
    SUSPECT = "a general method below its special case"  # arms
    EFFECTS_OF_TEST_ALONE = "a factorial study without effects on some metrics"  # metrics, reason
    NO_EFFECTS = "too many arms for effects of factors"  # most
    NOT_BRACKETED = "a tuned factor with only two values"  # arm, key, best
    NEARLY_EQUAL_IMAGES = "near-duplicate test images that count as independent"
    NOT_COMPARED = "the leader or a baseline that cannot be compared"  # arm, is_unconfirmed
    BASELINE_NAMED_LATE = "a baseline that was named after results were known"  # baseline, date, num_completed
    UNPAIRED = "pairs of arms whose seeds are not paired"  # pairs
    CROSSING = "arms whose order depends on the number of trials"  # crossings: ahead, behind, trials; is_balanced
    PARTLY_PAIRED = "pairs of arms that are compared on the seeds that both have"  # pairs
    IF_FAILED_GUESSED = "a verdict that failed runs at chance level would change"  # a, b, worst, verdict


@dataclass(frozen=True)
class Notice:
    """What a reader of a study should know about some runs or arms.

    Attributes:
        kind: Kind of the notice.
        runs: Names of the runs concerned.
        values: Values for its sentence, by name.
    """

    kind: Kind
    runs: tuple[str, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
