"""Meanings of the terms that the answer and the table heads of a report use."""

from collections.abc import Sequence

TOOLTIPS = {  # by column head
    "arm": "What is compared: the values of the compared factors",
    "configuration": "All settings of a run but its seed",
    "val %": "Validation accuracy, mean ± standard deviation over seeds; it ranks and chooses",
    "test %": "Test accuracy, mean over seeds; it chooses nothing",
    "95 % CI": "95 % confidence interval",
    "against the leader": "Verdict on the test accuracy, against the arm with the best validation accuracy",
    "seeds": "Number of completed runs; fresh seeds had no part in the choice",
    "trials": "Number of configurations that validation chose from",
    "gap": "Training minus validation accuracy at the best epoch, in points",
    "minutes": "Training time of a run, mean ± standard deviation over seeds",
    "images/s": "Training images per second",
    "parameters": "Number of parameters of the network",
    "p (Holm)": "p-value, adjusted for multiple comparisons by Holm's procedure",
    "p (McNemar)": "p-value of McNemar's exact test, unadjusted",
    "F": "ANOVA-type statistic: the larger, the clearer the interaction",
    "degrees of freedom": "Of numerator and denominator; estimated, so rarely whole numbers",
    "within": "Level of another factor within which the difference holds",
    "cells": "Number of combinations of the other factors",
}
TERMS = (  # a text that calls for the term, the term and its meaning
    ("", "arm", "What is compared: one combination of the values of the compared factors."),
    (
        "other seeds",
        "with the choice made on the other seeds",
        "The best of many results is partly luck. Here each seed is scored with the configuration that the other "
        "seeds would have chosen, which removes the luck of the seeds, but not that of the validation images.",
    ),
    (
        "95 % CI",
        "95 % CI",
        "Confidence interval: about 95 of 100 intervals that are computed in this way contain the true value. "
        "It allows for other seeds and for other test images.",
    ),
    ("fresh seed", "fresh seeds", "Seeds that were trained after the configurations had been chosen."),
    (
        "ignificant",
        "significant",
        "Differences between equally good arms would rarely be this large. Adjusted for the number of comparisons "
        "(Holm): about 5 % of studies without any true difference report one, a few more with three seeds. The "
        "intervals of differences are adjusted in the same way, so they are wider than 95 % intervals of one pair.",
    ),
    ("points", "points", "Percentage points of accuracy: 92 % is 2 points more than 90 %."),
    (
        "mallest detectable",
        "smallest detectable difference",
        "If two arms truly differed by this much, 80 % of studies like this one would find it. Smaller differences "
        "are often missed: no significant difference does not mean that arms are equal.",
    ),
    (
        "eeds needed per arm",
        "seeds needed per arm",
        "Seeds that a study needs to find a difference of that size with 80 % power. It is a range because the "
        "variance between seeds is itself estimated from few seeds.",
    ),
    (
        "more seeds cannot help",
        "more seeds cannot help",
        "Each test set is a sample of all images. Its own uncertainty hides differences of this size, however many "
        "seeds are trained; only more test images help.",
    ),
    (
        "interaction",
        "interaction",
        "The effect of one factor differs between the levels of another, so it has no single answer.",
    ),
    (
        "power law",
        "power law",
        "Error = a n^-b for n training images: each doubling multiplies the error by the same factor.",
    ),
)


def terms_of(answer: Sequence[str]) -> list[tuple[str, str]]:
    """Return the terms that the sentences of an answer use, each with its meaning."""
    text = " ".join(answer)
    return [(term, meaning) for sign, term, meaning in TERMS if sign in text]
