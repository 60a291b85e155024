"""Source of people, renderer and light of captures, opened in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.studio.assets.kit import SUMS
from pipelines.studio.looks.dressed_people import PeopleName, open_people
from pipelines.studio.people.figure import PeopleSource, require_training
from pipelines.studio.rendering.choice import Choice, open_renderer
from pipelines.studio.rendering.draws import find_environments, random_scene
from pipelines.studio.rendering.image import Renderer
from pipelines.studio.rendering.scene import StudioScene

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel


@dataclass(frozen=True)
class CaptureStudio:
    """All that captures and portraits are made with."""

    source: PeopleSource
    """Source of the people."""
    head: HeadModel
    """The open head."""
    renderer: Renderer
    """Renderer, used in the thread that opened it."""
    maps: tuple[Path, ...] = ()
    """Environment maps; without any, rooms and skies are made."""

    def __post_init__(self) -> None:
        """Refuse people who are kept for evaluation: images of the studio become training data."""
        require_training(self.source)

    def scene(self, g: np.random.Generator) -> StudioScene:
        """Draw the light and the background of a capture.

        Args:
            g: Random generator.
        """
        return random_scene(g, self.maps)


def open_capture_studio(
    cache: Path, people: PeopleName = "open", assets: Path | None = None, choice: Choice = "auto"
) -> CaptureStudio:
    """Open people, renderer and light in the calling thread.

    Args:
        cache: Cache folder of the open head and of what is derived from it.
        people: Name of the source of people.
        assets: Folder of a kit, or None for painted people and made light.
        choice: Renderer.

    Raises:
        ValueError: The people are kept for evaluation, or their assets are missing or damaged.
        RendererError: The renderer was named, and does not run here.
    """
    from ffavatar_model.head.open_head import build_open_head

    head = build_open_head(cache)
    source = open_people(people, cache, lambda _: head, assets)
    maps = find_environments(assets) if assets is not None and (assets / "hdri").is_dir() else ()
    return CaptureStudio(source, head, open_renderer(choice), maps)


def assets_digest(assets: Path | None) -> Mapping[str, str]:
    """Return the digest of the list of a kit's files by name, for fingerprints; empty without a kit.

    Args:
        assets: Folder of the kit, or None.
    """
    if assets is None or not (assets / SUMS).is_file():
        return {}
    return {"assets": hashlib.sha256((assets / SUMS).read_bytes()).hexdigest()}
