"""Who and which images a training sample holds: the order of people, and the choice of sources and drivers."""

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
    """How many pictures a sample holds, and in which order people come."""

    sources: tuple[int, int] = (1, 2)
    """Fewest and most sources; the number is drawn for each sample."""
    drivers: int = 3
    seed: int = 0
    cache: int = 4096
    """Decoded pictures kept in memory by each worker."""
    readers: int = 8
    """Byte ranges that each worker reads at once."""
    source_choice: Literal["random", "first"] = "random"
    """first: always the best-ranked pictures, as in use."""
    driver_choice: Literal["others", "any"] = "others"
    """any: sources are drivers, too, as where a person's few pictures are all that there is."""
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
        """A picture is the same each time it is drawn."""
        return self.augment == Augment() and self.degrade == Degrade()

    def held_out(self) -> SamplingConfig:
        """The same for validation: nothing is augmented, and no source is a driver."""
        return replace(self, augment=Augment(), degrade=Degrade(), driver_choice="others")


def generator(seed: int, digest: str, *key: object) -> torch.Generator:
    """The random numbers that belong to a place in the order of a snapshot's samples."""
    text = repr((seed, digest, *key)).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


class PermutedOrder:
    """People in an endless sequence of epochs, each a permutation of them."""

    def __init__(self, seed: int, digest: str) -> None:
        self.seed, self.digest = seed, digest
        self._key: tuple[int, int] = (-1, 0)
        self._epoch = torch.zeros(0, dtype=torch.int64)

    def __call__(self, cursor: int, people: int) -> int:
        """Who of ``people`` is at a place."""
        epoch, place = divmod(cursor, people)
        if self._key != (epoch, people):
            random = generator(self.seed, self.digest, "epoch", epoch)
            self._key, self._epoch = (epoch, people), torch.randperm(people, generator=random)
        return int(self._epoch[place])


def choose_few(n: int, n_sources: int, config: SamplingConfig, random: torch.Generator) -> tuple[list[int], list[int]]:
    """Indices of sources and of drivers among a person's ``n`` pictures; drivers repeat where there are too few."""
    others = config.driver_choice == "others"
    n_sources = min(n_sources, max(1, n - 1) if others else n)
    order = torch.randperm(n, generator=random).tolist()
    given = list(range(n_sources)) if config.source_choice == "first" else order[:n_sources]
    rest = ([i for i in order if i not in given] if others else order) or order
    return given, [rest[i % len(rest)] for i in range(config.drivers)]


def choose_around(
    moments: Sequence[object],
    n_sources: int,
    config: SamplingConfig,
    random: torch.Generator,
    sources: Sequence[bool] | None = None,
) -> tuple[list[int], list[int]]:
    """Drivers are views of one moment, sources any other pictures (of those that ``sources`` allows)."""
    order = torch.randperm(len(moments), generator=random).tolist()
    around = [i for i, moment in enumerate(moments) if moment == moments[order[-1]]]
    turn = torch.randperm(len(around), generator=random).tolist()
    drivers = [around[turn[i % len(turn)]] for i in range(config.drivers)]
    allowed = [i for i in order if sources is None or sources[i]] or order
    free = [i for i in allowed if i not in set(drivers)] or allowed
    return free[:n_sources], drivers
