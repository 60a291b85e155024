"""A small classifier that tells rendered faces from real ones: the lower its accuracy, the better the renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
FOLDS = 5
"""Number of parts into which the people are split; a person is in one part only."""
PENALTY = 0.05
"""Weight of the squared coefficients in the loss."""
BOOTSTRAPS = 500
"""Number of draws of people for the interval."""
THUMBNAIL, RINGS = 28, 16
"""Side of the thumbnail in pixels, and number of rings of the spectrum, among the features."""


@dataclass(frozen=True)
class Separation:
    """Accuracy at which rendered faces are told from real ones."""

    accuracy: float
    """Mean of the accuracies on rendered and on real faces of people that were not trained on, 0 to 1."""
    low: float
    """Lower end of the 95 % interval over people."""
    high: float
    """Upper end."""


def features(face: Image) -> dict[str, Array]:
    """Return the features of a face (112, 112, 3), by group: thumbnail, colour, spectrum."""
    grey = np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.uint8)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float64)
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)[24:104, 24:88].reshape(-1, 3).astype(np.float64)
    return {
        "thumbnail": ((small - small.mean()) / (small.std() + 1)).ravel(),
        "colour": np.concatenate([lab.mean(0), lab.std(0), np.percentile(lab, [5, 95], axis=0).ravel()]),
        "spectrum": spectrum(grey),
    }


def spectrum(grey: Image) -> Array:
    """Return the log10 power (16,) of the inner 64 x 64 pixels of a grey face, by spatial frequency, low to high."""
    inner = grey[24:88, 24:88].astype(np.float64)
    window = np.outer(np.hanning(64), np.hanning(64))
    power = np.abs(np.fft.fftshift(np.fft.fft2((inner - inner.mean()) * window))) ** 2
    y, x = np.mgrid[-32:32, -32:32]
    ring = np.minimum((np.hypot(x, y) / 2).astype(int), RINGS)
    total, count = np.bincount(ring.ravel(), power.ravel()), np.bincount(ring.ravel())
    return np.log10(total[:RINGS] / count[:RINGS] + 1e-3)


def separation(real: Array, rendered: Array, real_people: Sequence[str], rendered_people: Sequence[str]) -> Separation:
    """Measure how well logistic regression tells rendered from real, by cross-validation over people.

    Args:
        real: (N, F) features of real faces.
        rendered: (M, F) features of rendered faces.
        real_people: Person of each real face.
        rendered_people: Person of each rendered face.

    Raises:
        ValueError: One of the sides has fewer than ``FOLDS`` people.
    """
    sides = []
    for name, people in (("real", real_people), ("rendered", rendered_people)):
        names = sorted(set(people))
        if len(names) < FOLDS:
            raise ValueError(f"{len(names)} {name} people with a usable face: the classifier needs {FOLDS} or more")
        order = np.random.default_rng(0).permutation(len(names))
        sides.append((np.array([names.index(p) for p in people]), order % FOLDS))
    x, y = np.concatenate([real, rendered]), np.repeat([0.0, 1.0], [len(real), len(rendered)])
    fold = np.concatenate([of_person[person] for person, of_person in sides])
    right = np.zeros(len(x))
    for part in range(FOLDS):
        right[fold == part] = _right_answers(x[fold != part], y[fold != part], x[fold == part], y[fold == part])
    shares = [
        _mean_by_person(right[y == label], person, len(of_person)) for label, (person, of_person) in enumerate(sides)
    ]
    g = np.random.default_rng(0)
    draws = [np.mean([g.choice(s, len(s)).mean() for s in shares]) for _ in range(BOOTSTRAPS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Separation(float(np.mean([s.mean() for s in shares])), float(low), float(high))


def _mean_by_person(right: Array, person: NDArray[np.int64], n: int) -> Array:
    return np.bincount(person, right, n) / np.bincount(person, minlength=n)


def _right_answers(x: Array, y: Array, x_test: Array, y_test: Array) -> Array:
    """Fit logistic regression with equal weights of both classes; return 1 for each right answer on the test."""
    from scipy.optimize import minimize

    mean, spread = x.mean(0), x.std(0) + 1e-6
    a, b = ((v - mean) / spread / np.sqrt(x.shape[1]) for v in (x, x_test))
    weight = np.where(y > 0, 0.5 / y.sum(), 0.5 / (1 - y).sum())

    def loss(w: Array) -> tuple[float, Array]:
        z = a @ w[:-1] + w[-1]
        residual = weight * (1 / (1 + np.exp(-z)) - y)
        value = float((weight * (np.logaddexp(0, z) - y * z)).sum() + PENALTY / len(w) * (w[:-1] @ w[:-1]))
        return value, np.append(a.T @ residual + 2 * PENALTY / len(w) * w[:-1], residual.sum())

    w = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return ((b @ w[:-1] + w[-1] > 0) == (y_test > 0)).astype(np.float64)
