"""How well a clustering matches the truth: BCubed (Bagga and Baldwin 1998)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class BCubed:
    """Averages over tracks."""

    precision: float
    """Share of a track's cluster that is its person's."""
    recall: float
    """Share of a track's person that is in its cluster."""

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


def bcubed(labels: npt.ArrayLike, truth: npt.ArrayLike) -> BCubed:
    """BCubed of labels (N,) against the truth (N,), both integers; 1 where there is nothing to tell apart.

    Raises:
        ValueError: they differ in length.
    """
    _, found = np.unique(np.asarray(labels), return_inverse=True)
    _, wanted = np.unique(np.asarray(truth), return_inverse=True)
    if len(found) != len(wanted):
        raise ValueError(f"{len(found)} labels for {len(wanted)} tracks; give one a track")
    if not len(found):
        return BCubed(1.0, 1.0)
    both = found.astype(np.int64) * (int(wanted.max()) + 1) + wanted
    _, cell, together = np.unique(both, return_inverse=True, return_counts=True)
    shared = together[cell]
    return BCubed(
        float(np.mean(shared / np.bincount(found)[found])), float(np.mean(shared / np.bincount(wanted)[wanted]))
    )
