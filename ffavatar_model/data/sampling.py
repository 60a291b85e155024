"""Sampling: the order of people in training, and the choice of sources and drivers among a person's images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from ffavatar_model.config import require
from ffavatar_model.data.augment import Augment, Degrade


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Settings of a data set: images a sample, their random changes, and how they are read."""

    sources: tuple[int, int] = (1, 2)
    """Fewest and most sources; the number is drawn for each sample."""
    drivers: int = 3
    seed: int = 0
    cache: int = 4096
    """Number of decoded images that each worker keeps in memory."""
    readers: int = 8
    """Number of byte ranges that each worker reads at once."""
    source_choice: Literal["random", "first"] = "random"
    """first: always the best-ranked images, as in use."""
    driver_choice: Literal["others", "any"] = "others"
    """others: no source is a driver; any: sources may be drivers, too, for a person of whom there are few images."""
    augment: Augment = field(default_factory=Augment)
    degrade: Degrade = field(default_factory=Degrade)

    def __post_init__(self) -> None:
        low, high = self.sources
        require(1 <= low <= high, "sources", self.sources, "two numbers, 1 <= fewest <= most")
        require(self.drivers >= 1, "drivers", self.drivers, "at least 1")
        require(self.cache >= 0, "cache", self.cache, "0 or more")
        require(self.readers >= 1, "readers", self.readers, "at least 1")

    @property
    def fixed(self) -> bool:
        """An image is the same each time it is drawn."""
        return self.augment == Augment() and self.degrade == Degrade()

    def held_out(self) -> SamplingConfig:
        """Return the settings for validation: nothing is augmented, and no source is a driver."""
        return replace(self, augment=Augment(), degrade=Degrade(), driver_choice="others")


def seeded_generator(seed: int, digest: str, *key: object) -> torch.Generator:
    """Return the random generator of one place in the order of samples.

    Args:
        seed: The data set's seed.
        digest: The snapshot's digest.
        key: The purpose and the place, for instance ``"sample", cursor``.
    """
    text = repr((seed, digest, *key)).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


class PermutedOrder:
    """An endless sequence of epochs, each a permutation of all people."""

    def __init__(self, seed: int, digest: str) -> None:
        self.seed, self.digest = seed, digest
        self._key: tuple[int, int] = (-1, 0)
        self._epoch = torch.zeros(0, dtype=torch.int64)

    def __call__(self, cursor: int, people: int) -> int:
        """Return the index of the person at ``cursor`` in the sequence, of ``people`` in an epoch."""
        epoch, offset = divmod(cursor, people)
        if self._key != (epoch, people):
            random = seeded_generator(self.seed, self.digest, "epoch", epoch)
            self._key, self._epoch = (epoch, people), torch.randperm(people, generator=random)
        return int(self._epoch[offset])


def choose_few(n: int, n_sources: int, config: SamplingConfig, random: torch.Generator) -> tuple[list[int], list[int]]:
    """Choose sources and drivers among the images of a person, cameras unknown.

    Args:
        n: Number of the person's images.
        n_sources: Number of sources; there are fewer where the person has too few images.
        config: ``drivers``, ``source_choice`` and ``driver_choice`` are read.
        random: Says which; one permutation of the images is drawn.

    Returns:
        Indices of the sources and of the ``config.drivers`` drivers, which repeat where there are too few.
    """
    separate = config.driver_choice == "others"
    n_sources = min(n_sources, max(1, n - 1) if separate else n)
    order = torch.randperm(n, generator=random).tolist()
    sources = list(range(n_sources)) if config.source_choice == "first" else order[:n_sources]
    rest = ([i for i in order if i not in sources] if separate else order) or order
    return sources, [rest[i % len(rest)] for i in range(config.drivers)]


def choose_around(
    timesteps: Sequence[object],
    n_sources: int,
    config: SamplingConfig,
    random: torch.Generator,
    may_be_source: Sequence[bool] | None = None,
) -> tuple[list[int], list[int]]:
    """Choose drivers among the views of one timestep, and sources among a person's other views.

    Args:
        timesteps: For each view of the person the timestep that it shows.
        n_sources: Upper bound on the number of sources.
        config: ``drivers`` is read.
        random: Says which; two permutations are drawn.
        may_be_source: For each view whether it may be a source; None allows all.

    Returns:
        Indices of the sources and of the ``config.drivers`` drivers, which repeat where there are too few.
    """
    order = torch.randperm(len(timesteps), generator=random).tolist()
    around = [i for i, timestep in enumerate(timesteps) if timestep == timesteps[order[-1]]]
    turn = torch.randperm(len(around), generator=random).tolist()
    drivers = [around[turn[i % len(turn)]] for i in range(config.drivers)]
    allowed = [i for i in order if may_be_source is None or may_be_source[i]] or order
    free = [i for i in allowed if i not in set(drivers)] or allowed
    return free[:n_sources], drivers
