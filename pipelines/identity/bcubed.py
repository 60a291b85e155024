"""BCubed scores of a clustering against the truth (Bagga and Baldwin 1998)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class BCubed:
    """BCubed precision and recall, averaged over tracks."""

    precision: float
    """Share of a track's cluster that belongs to the track's person."""
    recall: float
    """Share of the tracks of a track's person that are in the track's cluster."""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


def bcubed(labels: npt.ArrayLike, truth: npt.ArrayLike) -> BCubed:
    """Compute the BCubed scores of a clustering; both are 1 if there are no tracks.

    Args:
        labels: (N,) integers, the cluster of each track.
        truth: (N,) integers, the person of each track.

    Raises:
        ValueError: ``labels`` and ``truth`` differ in length.
    """
    _, clusters = np.unique(np.asarray(labels), return_inverse=True)
    _, people = np.unique(np.asarray(truth), return_inverse=True)
    if len(clusters) != len(people):
        raise ValueError(f"{len(clusters)} labels for {len(people)} tracks; give one a track")
    if not len(clusters):
        return BCubed(1.0, 1.0)
    cells = clusters.astype(np.int64) * (int(people.max()) + 1) + people
    _, cell, together = np.unique(cells, return_inverse=True, return_counts=True)
    shared = together[cell]
    return BCubed(
        float(np.mean(shared / np.bincount(clusters)[clusters])), float(np.mean(shared / np.bincount(people)[people]))
    )
