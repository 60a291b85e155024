"""Data card of a snapshot as Markdown."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.sharing.card_facts import LEAST_PEOPLE, CardFacts
from pipelines.sharing.rights import NOT_STATED, REASONS


def card_markdown(facts: CardFacts) -> str:
    """Return the data card.

    Args:
        facts: Facts of the snapshot.
    """
    environment = Environment(
        loader=PackageLoader("pipelines.sharing"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "number": lambda value: f"{int(value):,}", "cell": _cell}
    manifest = facts.snapshot.manifest
    unstated = sum(row.videos for row in facts.rights if row.consent == NOT_STATED)
    refused = [row for row in facts.rights if row.refusal]
    return environment.get_template("card.md.j2").render(
        facts=facts,
        manifest=manifest,
        digest=facts.snapshot.digest,
        preset=manifest.about.get("preset", {}),
        steps=manifest.about.get("fingerprints", {}),
        has_condition=bool(manifest.about.get("where")),
        unstated=unstated,
        refused=refused,
        reasons=REASONS,
        least_people=LEAST_PEOPLE,
    )


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"


def _cell(value: object) -> str:
    """Return a text that does not end a cell of a table, and is no markup."""
    text = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c for c in text)
