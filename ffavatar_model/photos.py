"""A person's own photos as a training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ffavatar_model.data import Face, FewToMany


class PhotoDataset(FewToMany):
    """One person's photos, prepared, in memory; ``FewToMany.Config`` says which are sources and which are drivers."""

    def __init__(self, photos: Sequence[Face], config: FewToMany.Config) -> None:
        """``photos`` at the model's size, those that are sources first.

        Raises:
            ValueError: there is no photo.
        """
        if not photos:
            raise ValueError("no photo to personalize on; give at least one")
        super().__init__(config, photos[0].pixels.shape[-1], " ".join(photo.id for photo in photos), _nowhere)
        self._photos = {photo.id: photo for photo in photos}
        self.groups = [("photos", [{"id": photo.id} for photo in photos])]

    def _load(self, row: dict[str, Any]) -> Face:
        return self._photos[row["id"]]


def every_photo(n: int, drivers: int) -> FewToMany.Config:
    """All ``n`` photos are sources, in their order; up to ``drivers`` of them, drawn anew each time, are drivers."""
    return FewToMany.Config(
        sources=(n, n), drivers=min(drivers, n), source_choice="first", driver_choice="any"
    )  # fmt: skip


def _nowhere(uri: str, offset: int, length: int) -> NoReturn:
    raise ValueError(f"{uri}: photos are in memory")
