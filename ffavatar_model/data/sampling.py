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
    """Settings of a data set: number of images per sample, their augmentation, and how they are read."""

    sources: tuple[int, int] = (1, 2)
    """Smallest and largest number of sources; each sample draws its number."""
    drivers: int = 3
    """Number of drivers per sample."""
    seed: int = 0
    """Seed of the order of people, of the choice of images and of their augmentation."""
    cache: int = 4096
    """Number of decoded images that each loader process keeps in memory."""
    readers: int = 8
    """Number of byte ranges that each loader process reads concurrently."""
    source_choice: Literal["random", "first"] = "random"
    """``random``: any images. ``first``: always the first images of a person, which are the best-ranked ones."""
    driver_choice: Literal["others", "any"] = "others"
    """``others``: a source is not a driver. ``any``: sources may be drivers, too, for people with few images."""
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
        """True if images are not augmented, so an image is the same each time it is drawn."""
        return self.augment == Augment() and self.degrade == Degrade()

    def held_out(self) -> SamplingConfig:
        """Return the settings for validation: images are not augmented, and a source is not a driver."""
        return replace(self, augment=Augment(), degrade=Degrade(), driver_choice="others")


def seeded_generator(seed: int, digest: str, *key: object) -> torch.Generator:
    """Return a random generator that depends on the arguments alone.

    Args:
        seed: The data set's seed.
        digest: The snapshot's digest.
        key: The purpose of the numbers and a position, for example ``"sample", cursor``.
    """
    text = repr((seed, digest, *key)).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


class PermutedOrder:
    """An endless sequence of epochs, each of which is a random permutation of all people."""

    def __init__(self, seed: int, digest: str) -> None:
        self.seed, self.digest = seed, digest
        self._key: tuple[int, int] = (-1, 0)
        self._epoch = torch.zeros(0, dtype=torch.int64)

    def __call__(self, cursor: int, people: int) -> int:
        """Return the index of the person at position ``cursor``, if an epoch has ``people`` people."""
        epoch, offset = divmod(cursor, people)
        if self._key != (epoch, people):
            random = seeded_generator(self.seed, self.digest, "epoch", epoch)
            self._key, self._epoch = (epoch, people), torch.randperm(people, generator=random)
        return int(self._epoch[offset])


def choose_few(n: int, n_sources: int, config: SamplingConfig, random: torch.Generator) -> tuple[list[int], list[int]]:
    """Choose sources and drivers among the images of one person, whose cameras are unknown.

    Args:
        n: Number of the person's images.
        n_sources: Number of sources; fewer are chosen if the person has too few images.
        config: ``drivers``, ``source_choice`` and ``driver_choice`` are read.
        random: Generator of the choice; one permutation of the images is drawn from it.

    Returns:
        Indices of the sources and of the ``config.drivers`` drivers, which repeat if there are too few images.
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
    """Choose drivers among the views of one timestep, and sources among the person's other views.

    Args:
        timesteps: Timestep of each view of the person.
        n_sources: Upper bound on the number of sources.
        config: Only ``drivers`` is read.
        random: Generator of the choice; two permutations are drawn from it.
        may_be_source: For each view, True if it may be a source; None allows all views.

    Returns:
        Indices of the sources and of the ``config.drivers`` drivers, which repeat if there are too few images.
    """
    order = torch.randperm(len(timesteps), generator=random).tolist()
    around = [i for i, timestep in enumerate(timesteps) if timestep == timesteps[order[-1]]]
    turn = torch.randperm(len(around), generator=random).tolist()
    drivers = [around[turn[i % len(turn)]] for i in range(config.drivers)]
    allowed = [i for i in order if may_be_source is None or may_be_source[i]] or order
    free = [i for i in allowed if i not in set(drivers)] or allowed
    return free[:n_sources], drivers
