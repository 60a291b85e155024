"""Sources of people by name, dressed: the one way in which commands and experiments open them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mfhq.ids import digest
from pipelines.studio.assets.kit import SUMS, AssetKit, open_kit
from pipelines.studio.ict.ict_model import CHECKOUT, PACKED
from pipelines.studio.ict.ict_source import open_ict_source
from pipelines.studio.looks.dress import dress
from pipelines.studio.looks.plain_looks import painted_looks
from pipelines.studio.people.figure import PeopleSource
from pipelines.studio.people.makehuman_kit import find_makehuman_root, open_makehuman_kit
from pipelines.studio.people.open_source import OpenSource, open_source
from pipelines.studio.valid.valid_source import TOPOLOGY, ValidSource

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

PeopleName = Literal["open", "ict", "valid"]
PEOPLE: tuple[PeopleName, ...] = get_args(PeopleName)
"""Names of the sources: people of the open head; faces of ICT-FaceKit on it; the avatars of VALID, for evaluation."""


def open_people(
    name: PeopleName, cache: Path, load_head: Callable[[Path], HeadModel], assets: Path | None = None
) -> PeopleSource:
    """Open a source of people.

    Args:
        name: Name of the source.
        cache: Cache folder of the open head and of what is derived from it.
        load_head: Function that returns the open head with its landmarks from the cache folder.
        assets: Folder of a packed kit, of MakeHuman's own assets (for open people), or of a checkout of ICT-FaceKit
            (for ict people); None for plain people of the open head.

    Raises:
        ValueError: The source needs assets that are missing, damaged or of another version; or has another name.
    """
    if name not in PEOPLE:
        raise ValueError(f"people {name!r}: there are {', '.join(PEOPLE)}")
    if name == "valid":
        kit = _needed_kit(name, assets)
        kit.require(TOPOLOGY)
        return ValidSource(kit)
    plain = open_source(cache, load_head)
    if name == "open":
        return _dressed(plain, _kit(plain, assets))
    if assets is not None and not (assets / SUMS).is_file() and (assets / CHECKOUT).is_dir():
        return open_ict_source(cache, _dressed(plain, None), assets)
    kit = _needed_kit(name, assets)
    kit.require(PACKED)
    return open_ict_source(cache, _dressed(plain, kit), kit)


def identity_ids(source: PeopleSource, count: int, seed: int) -> list[str]:
    """Return ids of different people.

    Args:
        source: Source of the people.
        count: Number of ids.
        seed: Another seed gives other people, if the source makes them.

    Raises:
        ValueError: The source has fewer people.
    """
    if not isinstance(source, ValidSource):
        return [digest(["studio", seed, number]) for number in range(count)]
    if count > len(source.names):
        raise ValueError(f"source {source.name!r} has {len(source.names)} people, not {count}: ask for fewer")
    return list(source.names[:count])


def _dressed(people: OpenSource, kit: AssetKit | None) -> OpenSource:
    """Return the people with the assets of a kit, or painted without one."""
    return replace(people, kit=kit, dress=dress, looks=None if kit else painted_looks(people))


def _kit(people: OpenSource, assets: Path | None) -> AssetKit | None:
    """Return the packed kit in a folder, or MakeHuman's own assets, or None without a folder."""
    if assets is None:
        return None
    if not (assets / SUMS).is_file() and (root := find_makehuman_root(assets)) is not None:
        return open_makehuman_kit(root, people.base, people.head.triangles.numpy())
    return open_kit(assets)


def _needed_kit(name: str, assets: Path | None) -> AssetKit:
    if assets is None:
        raise ValueError(f"people {name!r} need assets: name the folder of a kit with --assets")
    return open_kit(assets)
