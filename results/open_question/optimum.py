"""Optimum of the training objective on frozen features, and the spectrum of these features.

The objective is the mean cross entropy over the training images plus half the weight decay times the squared norm of
the weight matrix; the bias is not decayed (`intel_scenes.models.param_groups`). It is convex, and every optimizer with
coupled decay minimizes it.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from scipy.sparse.linalg import LinearOperator, eigsh

from intel_scenes import files
from intel_scenes.config import of_record
from intel_scenes.errors import UserError
from intel_scenes.record import Summary
from results.open_question.intervals import Estimate, slopes
from results.open_question.runs import FROZEN, Problem, Trial

OPTIMUM, SPECTRUM = "optimum.json", "spectrum.csv"
RESOLUTION = 1e-6  # of a loss that was computed in float32: smaller differences from the optimum mean nothing
LARGEST_GAP = 1e-8  # by which the value may exceed the true optimum, far below the resolution
FIRST_RANK, LAST_SHARE = 10, 0.5  # eigenvalues that the capacity exponent is fitted to: rank 10 to half of all

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Optimum:
    """Minimum of an objective.

    Attributes:
        value: The minimum.
        gradient_norm: Euclidean norm of the gradient there.
        gap: Upper bound of `value` minus the true minimum in the decayed directions, by strong convexity:
            gradient_norm^2 / (2 weight_decay).
        iterations: Iterations of L-BFGS.
        num_images: Number of training images.
        curvature: Largest eigenvalue of the Hessian at the minimum: gradient descent is stable below 2 / curvature.
        beta: Capacity exponent: eigenvalue j of the covariance of the features falls like j^-beta.
        beta_low: Smallest of the exponents that are fitted to the lower and the upper half of these ranks.
        beta_high: Largest of them.
    """

    value: float
    gradient_norm: float
    gap: float
    iterations: int
    num_images: int
    curvature: float
    beta: float
    beta_low: float
    beta_high: float


def minimum(
    features: Floats, labels: Labels, weight_decay: float, num_classes: int
) -> tuple[float, Floats, Floats, int]:
    """Minimize the objective by L-BFGS in float64.

    It searches in the principal axes of the centered features, each scaled by the curvature of the objective along it:
    the penalty does not depend on the axes, nor the optimum on the center, since the bias is not decayed. Otherwise
    L-BFGS takes many thousands of iterations.

    Args:
        features: (N, D) features.
        labels: (N,) classes.
        weight_decay: Coefficient of the penalty, above 0.
        num_classes: Number of classes.

    Returns:
        The minimum, its weights with the biases last and the gradient there, each (num_classes, D + 1), and the
        iterations.
    """
    center, num_images = features.mean(0), len(labels)
    centered = features - center
    curvatures, axes = np.linalg.eigh(centered.T @ centered / num_images)
    axes *= 1 / np.sqrt(curvatures.clip(0) / num_classes + weight_decay)
    inputs = np.column_stack([centered @ axes, np.ones(num_images)])
    decay = np.append(weight_decay * np.square(axes).sum(0), 0.0)
    targets = np.eye(num_classes)[labels]

    def objective(weights: Floats, inputs: Floats, decay: Floats) -> tuple[float, Floats]:
        logits = inputs @ weights.T
        losses = special.logsumexp(logits, axis=1) - logits[np.arange(num_images), labels]
        gradient = (special.softmax(logits, axis=1) - targets).T @ inputs / num_images + decay * weights
        return float(losses.mean() + 0.5 * (decay * weights**2).sum()), gradient

    def flat(weights: Floats) -> tuple[float, Floats]:
        value, gradient = objective(weights.reshape(num_classes, -1), inputs, decay)
        return value, gradient.ravel()

    result = optimize.minimize(
        flat,
        np.zeros(num_classes * inputs.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5_000, "maxfun": 10_000, "maxcor": 50, "ftol": 0.0, "gtol": 1e-10},
    )
    scaled = result.x.reshape(num_classes, -1)
    weights = scaled[:, :-1] @ axes.T
    whole = np.column_stack([weights, scaled[:, -1] - weights @ center])
    decay_of_whole = np.append(np.full(features.shape[1], weight_decay), 0.0)
    value, gradient = objective(whole, np.column_stack([features, np.ones(num_images)]), decay_of_whole)
    return value, whole, gradient, int(result.nit)


def curvature(features: Floats, weights: Floats, weight_decay: float) -> float:
    """Return the largest eigenvalue of the Hessian of the objective.

    Args:
        features: (N, D) features.
        weights: (num_classes, D + 1) weights with the biases last.
        weight_decay: Coefficient of the penalty.
    """
    inputs = np.column_stack([features, np.ones(len(features))])
    decay = np.append(np.full(features.shape[1], weight_decay), 0.0)
    probabilities = special.softmax(inputs @ weights.T, axis=1)

    def product(direction: Floats) -> Floats:
        directions = direction.reshape(weights.shape)
        logits = inputs @ directions.T
        change = probabilities * (logits - (probabilities * logits).sum(axis=1, keepdims=True))
        result: Floats = (change.T @ inputs / len(inputs) + decay * directions).ravel()
        return result

    hessian = LinearOperator((weights.size, weights.size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=weights.size)
    return float(eigsh(hessian, k=1, v0=start, tol=1e-6, return_eigenvectors=False)[0])


def eigenvalues(features: Floats) -> Floats:
    """Return the eigenvalues of the covariance of (N, D) features, largest first; the bias takes up their mean."""
    centered = features - features.mean(0)
    return np.linalg.eigvalsh(centered.T @ centered / len(features))[::-1].clip(0)


def capacity_exponent(spectrum: Floats, first: int = FIRST_RANK) -> Estimate:
    """Fit eigenvalue j ~ j^-beta by least squares on logarithmic axes.

    The first eigenvalues (the classes) and the last ones (too few images) do not follow a power. The interval spans the
    fits to the two halves of the ranks on the logarithmic axis: it says how far the spectrum is from a power.
    """
    last = int(len(spectrum) * LAST_SHARE)
    middle = int(np.sqrt(first * last))

    def fit(low: int, high: int) -> float:
        ranks = np.arange(low, high + 1)
        return -slopes(list(np.log(spectrum[low - 1 : high])), list(np.log(ranks)))[0].value

    parts = (fit(first, last), fit(first, middle), fit(middle, last))
    return Estimate(parts[0], min(parts), max(parts), last - first + 1)


def solve(features: Floats, labels: Labels, weight_decay: float, num_classes: int) -> tuple[Optimum, Floats]:
    """Return the optimum with the eigenvalues of the features.

    Raises:
        UserError: There is no penalty, or L-BFGS does not come close enough.
    """
    if not weight_decay > 0:
        raise UserError("the optimum of a separable problem without a penalty is at infinity: set optim.weight_decay")
    value, weights, gradient, iterations = minimum(features, labels, weight_decay, num_classes)
    norm = float(np.linalg.norm(gradient))
    gap = norm**2 / (2 * weight_decay)
    if gap > LARGEST_GAP:
        raise UserError(f"L-BFGS ended {gap:.1g} above the optimum at most: set a larger optim.weight_decay")
    spectrum = eigenvalues(features)
    beta = capacity_exponent(spectrum)
    sharpest = curvature(features, weights, weight_decay)
    return Optimum(value, norm, gap, iterations, len(labels), sharpest, beta.value, beta.low, beta.high), spectrum


def training_features(folder: Path) -> tuple[Floats, Labels, int]:
    """Return the features of the training images of a run, in float64, with their labels and the number of classes.

    Raises:
        UserError: The images or the weights of the run are missing.
    """
    import torch

    from intel_scenes.models.libraries import resolve_weights
    from intel_scenes.runtime import runtime_of_machine
    from intel_scenes.training.build import build_data, build_network
    from intel_scenes.training.frozen_features import Head, frozen_features

    config, summary = of_record(folder), Summary.read(folder)
    assert summary is not None
    runtime = runtime_of_machine(summary.precision or "auto", summary.threads)
    torch.set_num_threads(runtime.threads)
    weights, images = resolve_weights(config.model), build_data(config)
    torch.manual_seed(config.seed)
    network = build_network(config, weights, images)
    head = Head(network, config.model.name)
    data, _ = frozen_features(
        network, head, images, model=config.model, weights=weights, seed=config.seed, runtime=runtime
    )
    batch = data.images.batch(data.splits.train)
    return batch.images.numpy().astype(np.float64), batch.labels.numpy(), len(data.splits.classes)


def optima(trials: Collection[Trial], output: Path) -> dict[Problem, Optimum]:
    """Return the optimum of each problem on frozen features with a penalty, from `optimum.json` if it is there.

    Raises:
        UserError: It cannot be computed, or a run lies below it.
    """
    path = output / OPTIMUM
    known = {entry["key"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}
    optima = {}
    problems = {trial.cell.problem for trial in trials}
    for problem in sorted(problem for problem in problems if problem.trained == FROZEN and problem.weight_decay > 0):
        of_problem = [trial for trial in trials if trial.cell.problem == problem]
        key = files.digest([asdict(problem), of_problem[0].images, list(Optimum.__dataclass_fields__)])
        if key not in known:
            optimum, spectrum = solve(*_inputs(of_problem[0].folder, problem))
            known[key] = {"key": key, "problem": str(problem), **asdict(optimum)}
            _write_spectrum(output / SPECTRUM, str(problem), spectrum)
            files.write_whole(path, (json.dumps(list(known.values()), indent=2) + "\n").encode())
        optima[problem] = Optimum(**{name: known[key][name] for name in Optimum.__dataclass_fields__})
        _check_lowest(optima[problem], of_problem)
    return optima


def _inputs(folder: Path, problem: Problem) -> tuple[Floats, Labels, float, int]:
    features, labels, num_classes = training_features(folder)
    return features, labels, problem.weight_decay, num_classes


def _write_spectrum(path: Path, problem: str, spectrum: Floats) -> None:
    before = path.read_text().splitlines()[1:] if path.exists() else []
    lines = [*before, *(f'"{problem}",{rank},{value!r}' for rank, value in enumerate(spectrum.tolist(), start=1))]
    files.write_whole(path, ("\n".join(["problem,rank,eigenvalue", *lines]) + "\n").encode())


def _check_lowest(optimum: Optimum, trials: Sequence[Trial]) -> None:
    lowest = min(trials, key=lambda trial: trial.objective)
    if lowest.objective < optimum.value - RESOLUTION:
        raise UserError(
            f"{lowest.folder} ends at {lowest.objective:.9g}, below the optimum of {optimum.value:.9g}: it minimized "
            "another function, or its images changed"
        )
