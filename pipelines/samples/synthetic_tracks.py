"""Synthetic track embeddings of known people, distributed like real ones, on which clusterings are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Distribution of the embeddings of a synthetic corpus; the defaults are those of ``ffavatar bench cluster``."""

    same: float = 0.87
    """Mean cosine similarity between two tracks of one person."""
    same_spread: float = 0.05
    """Standard deviation of the similarity between two tracks of one person."""
    same_least: float = 0.60
    """Smallest similarity between two tracks of one person."""
    other: float = 0.02
    """Mean cosine similarity between tracks of two people."""
    other_spread: float = 0.09
    """Standard deviation of the similarity between tracks of two people.

    People differ in about 1 / ``other_spread``² directions.
    """
    zipf: float = 2.0
    """Exponent of the Zipf distribution of the number of tracks per person."""
    most_tracks: int = 200
    """Largest number of tracks per person."""
    lookalikes: float = 0.02
    """Share of the people who have a lookalike."""
    lookalike_range: tuple[float, float] = (0.45, 0.55)
    """Range of the cosine similarity between the centres of a person and their lookalike."""
    junk: float = 0.01
    """Share of the tracks that are similar to no person; each of them counts as a person of its own."""
    one_video: float = 0.5
    """Share of the people who appear in only one video."""
    people_per_video: int = 4
    """Number of people per video, which determines the number of videos."""


@dataclass(frozen=True)
class TrackEmbeddings:
    """Synthetic tracks, in random order."""

    vectors: Vectors
    """(N, width) embeddings of unit length."""
    person: Integers
    """(N,) number of the person."""
    video: Integers
    """(N,) number of the video. In a video, tracks of one person do not overlap; tracks of different people may."""
    start: Integers
    """(N,) first frame."""
    end: Integers
    """(N,) last frame plus one."""


def draw_tracks(n: int, width: int, seed: int, population: Population | None = None) -> TrackEmbeddings:
    """Draw tracks; the same arguments give the same tracks.

    A track is the centre of its person, rotated by a random angle in a random direction. Similarities within a person
    vary, because tracks lie at different distances from the centre, like those of good and bad recordings.

    Args:
        n: Number of tracks.
        width: Width of the embeddings, at least 32.
        seed: Seed of the random draws.
        population: Distribution of the embeddings; None means the defaults.
    """
    population = population or Population()
    random = np.random.default_rng(seed)
    n_junk = round(population.junk * n)
    person = _draw_people(random, n - n_junk, population)
    n_people = int(person.max(initial=-1)) + 1
    person = np.concatenate([person, np.arange(n_people, n_people + n_junk)])
    space = _Space(random, width, population)
    centres = _add_lookalikes(random, space.draw(n_people + n_junk), n_people, space, population)
    nearness = _draw_nearness(random, n, population)
    nearness[person >= n_people] = 1.0  # a junk track is its own centre
    video, slot = _draw_videos(random, person, n_people, population)
    order = random.permutation(n)
    person, video, slot = (column[order] for column in (person, video, slot))
    nearness = nearness[order]
    vectors = np.empty((n, width), np.float32)
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        centre, near = centres[person[rows]], nearness[rows, None]
        orthogonal = _orthogonal_to(space.draw(len(centre), shared=False), centre)
        vectors[rows] = _unit(near * centre + np.sqrt(1 - near**2) * orthogonal)
    return TrackEmbeddings(vectors, person, video, slot * 100, slot * 100 + 90)


class _Space:
    """Random directions whose pairwise cosines have the population's mean and spread, for any width."""

    def __init__(self, random: np.random.Generator, width: int, population: Population) -> None:
        self.random, self.width = random, width
        self.shared = float(np.sqrt(population.other / population.same))
        concentration = min((population.other_spread / (1 - population.other)) ** 2, 0.9)
        index = np.arange(width)

        def weights(decay: float) -> npt.NDArray[np.float64]:
            decaying = np.exp(-index * decay)
            return decaying / decaying.sum()

        flat = float((weights(0.0) ** 2).sum())
        decay = brentq(lambda d: (weights(d) ** 2).sum() - concentration, 0.0, 5.0) if flat < concentration else 0.0
        turned, _ = np.linalg.qr(random.standard_normal((width, width)))
        self.basis = (np.sqrt(weights(decay))[:, None] * turned).astype(np.float32)
        self.common = turned[-1].astype(np.float32)

    def draw(self, n: int, shared: bool = True) -> Vectors:
        """Draw (n, width) unit directions; ``shared`` adds the direction that all faces have in common."""
        own = np.float32(np.sqrt(1 - self.shared**2))
        drawn = np.empty((n, self.width), np.float32)
        for start in range(0, n, _CHUNK):
            part = self.random.standard_normal((min(_CHUNK, n - start), self.width), np.float32) @ self.basis
            drawn[start : start + len(part)] = self.shared * self.common + own * _unit(part) if shared else part
        return _unit(drawn)


def _draw_people(random: np.random.Generator, n: int, population: Population) -> Integers:
    """Draw the person (n,) of each track, as a number from 0."""
    sizes = np.arange(1, population.most_tracks + 1, dtype=np.float64)
    chance = sizes**-population.zipf
    drawn = random.choice(sizes.astype(np.int64), size=n, p=chance / chance.sum())
    return np.repeat(np.arange(n), drawn)[:n]


def _add_lookalikes(
    random: np.random.Generator, centres: Vectors, n_people: int, space: _Space, population: Population
) -> Vectors:
    """Move the centres of some people close to another person's centre; return all centres."""
    pairs = min(round(population.lookalikes * n_people), n_people // 2)
    chosen = random.permutation(n_people)[: 2 * pairs]
    beside, moved = chosen[:pairs], chosen[pairs:]
    similarity = random.uniform(*population.lookalike_range, size=(pairs, 1)).astype(np.float32)
    orthogonal = _orthogonal_to(space.draw(pairs, shared=False), centres[beside])
    centres[moved] = similarity * centres[beside] + np.sqrt(1 - similarity**2) * orthogonal
    return centres


def _draw_nearness(random: np.random.Generator, n: int, population: Population) -> npt.NDArray[np.float32]:
    """Draw the cosine (n,) between each track and its centre; products of two have the population's mean and spread."""
    mean, noise = np.sqrt(population.same), population.other_spread
    own = max(population.same_spread**2 - ((1 - population.same) * noise) ** 2, 0.0)
    drawn = random.normal(
        mean, 1.08 * np.sqrt(own / (2 * population.same)), n
    )  # wider, because the clipping makes it narrower
    # so large that a pair exceeds the smallest similarity even with four standard deviations of noise
    least = np.sqrt((population.same_least + 4 * noise) / (1 + 4 * noise))
    return np.clip(drawn, min(least, mean), 0.995).astype(np.float32)


def _draw_videos(
    random: np.random.Generator, person: Integers, n_people: int, population: Population
) -> tuple[Integers, Integers]:
    """Draw the video and the time slot of each track; all slots of a person are different."""
    n_videos = max(1, n_people // population.people_per_video)
    home = random.integers(0, n_videos, size=int(person.max(initial=0)) + 1)
    stays = random.random(len(home)) < population.one_video
    anywhere = random.integers(0, n_videos, size=len(person))
    video = np.where(stays[person], home[person], anywhere)
    _, first = np.unique(person, return_index=True)  # tracks of one person are still consecutive here
    slot = np.arange(len(person)) - first[np.searchsorted(person[first], person)]
    return video, slot


def _orthogonal_to(vectors: Vectors, centres: Vectors) -> Vectors:
    """Return the components of vectors that are orthogonal to the centres, scaled to unit length."""
    return _unit(vectors - (vectors * centres).sum(axis=1, keepdims=True) * centres)


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
