"""scikit-learn's logistic regression on the features of a complete `recipe=linear_probe` run.

`python -m tests.training.logistic FOLDER` prints both. Its regularization is chosen on the same validation set.
"""

import sys
import warnings
from pathlib import Path

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from intel_scenes.config import of_record
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.record import Summary
from intel_scenes.runtime import runtime_of_machine
from intel_scenes.training.build import build_data, build_network
from intel_scenes.training.frozen_features import Head, frozen_features

INVERSE_DECAYS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def main(folder: Path) -> None:
    """Fit on the training images of the run, choose the regularization on its validation set, and test once."""
    config, summary = of_record(folder), Summary.read(folder)
    assert summary is not None
    weights = resolve_weights(config.model)
    runtime = runtime_of_machine(summary.precision or "auto", summary.threads)
    torch.set_num_threads(runtime.threads)
    images = build_data(config)
    network = build_network(config, weights, images)
    assert config.recipe.trained == "head", "the run trained more than the head"
    head = Head(network, config.model.name)
    data, _ = frozen_features(
        network, head, images, model=config.model, weights=weights, seed=config.seed, runtime=runtime
    )
    (x, y), (x_val, y_val), (x_test, y_test) = (
        [part.numpy() for part in stored.batch(chosen)[:2]]
        for stored, chosen in (
            (data.images, data.splits.train),
            (data.images, data.splits.val),
            (data.test_images, data.splits.test),
        )
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=300)).fit(x, y)
        for inverse in INVERSE_DECAYS
    ]
    best = max(fitted, key=lambda one: one.score(x_val, y_val))
    print(f"logistic regression: val {best.score(x_val, y_val):.2%}, test {best.score(x_test, y_test):.2%}, {best[-1]}")
    print(f"the run: val {summary.val_accuracy:.2%}, test {summary.test_accuracy:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
