"""Data cards beside the snapshots: written before the manifest, which has their digests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from mfhq.catalog import Snapshot
from mfhq.integrity import check_read
from mfhq.manifest import Manifest
from mfhq.paths import card_path
from mfhq.seals import DamagedFileError
from mfhq.store import Store
from pipelines.sharing.card_facts import collect_facts
from pipelines.sharing.card_markdown import card_markdown
from pipelines.sharing.croissant import card_croissant

MARKDOWN, CROISSANT = "md", "json"
"""Forms of a card, and the endings of its files."""
ABOUT = "cards"
"""Key of ``Manifest.about``: form → path, n_bytes and sha256 of the card."""

_MAKERS = {MARKDOWN: card_markdown, CROISSANT: card_croissant}


def with_cards(store: Store, manifest: Manifest) -> Manifest:
    """Write the data cards of a snapshot, and return its manifest with their digests.

    Args:
        store: The corpus.
        manifest: Manifest of the snapshot, whose tables are written; it need not be committed yet.
    """
    facts, cards = collect_facts(Snapshot(store, manifest)), dict[str, dict[str, Any]]()
    for form, make in _MAKERS.items():
        data = make(facts).encode()
        sha256 = hashlib.sha256(data).hexdigest()
        path = card_path(manifest.version, sha256[:16], form)
        store.write(path, data)
        cards[form] = {"path": path, "n_bytes": len(data), "sha256": sha256}
    return replace(manifest, about={**manifest.about, ABOUT: cards})


def renew_cards(store: Store, manifest: Manifest) -> Manifest:
    """Write the cards of a redacted snapshot anew and delete its former ones; a snapshot without cards gets none.

    Args:
        store: The corpus.
        manifest: Manifest of the snapshot after the redaction.
    """
    former = {card["path"] for card in manifest.about.get(ABOUT, {}).values()}
    if not former:
        return manifest
    renewed = with_cards(store, manifest)
    for path in former - {card["path"] for card in renewed.about[ABOUT].values()}:
        store.delete(path)
    return renewed


def read_card(snapshot: Snapshot, form: str = MARKDOWN) -> str:
    """Read the data card of a snapshot; one without cards, of an earlier version, gets it made now.

    Args:
        snapshot: The snapshot.
        form: ``MARKDOWN`` or ``CROISSANT``.

    Raises:
        DamagedFileError: The card is missing, or is not the one that was written.
    """
    card = snapshot.manifest.about.get(ABOUT, {}).get(form)
    if card is None:
        return _MAKERS[form](collect_facts(snapshot))
    try:
        return check_read(snapshot.store, card["path"], snapshot.store.read(card["path"]), card["sha256"]).decode()
    except FileNotFoundError as error:
        where = f"{snapshot.store.uri}/{card['path']}"
        raise DamagedFileError(f"{where}: the data card is missing; restore it, or publish again") from error
