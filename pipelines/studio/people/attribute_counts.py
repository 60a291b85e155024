"""Counts of the attributes that sources of people declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pipelines.studio.people.figure import Attributes

UNKNOWN = "unknown"
"""Name of what a source does not know."""


def count_attributes(people: Iterable[Attributes]) -> dict[str, dict[str, int]]:
    """Count people by source, sex, age, tone of skin, shape and each style.

    Every person counts once for an attribute, so that the counts of each sum to the number of people; a style that a
    person lacks counts as ``none``.

    Args:
        people: Attributes, one of each person.

    Returns:
        Attribute → value → number of people, values sorted by name.
    """
    listed = list(people)
    styles = sorted({kind for each in listed for kind in each.styles})
    values = {
        "source": [each.source for each in listed],
        "sex": [each.sex or UNKNOWN for each in listed],
        "age": [each.age or UNKNOWN for each in listed],
        "skin tone": [UNKNOWN if each.skin_tone is None else str(each.skin_tone) for each in listed],
        "shape": ["unusual" if each.unusual_shape else "usual" for each in listed],
    } | {kind: [each.styles.get(kind, "none") for each in listed] for kind in styles}
    return {name: dict(sorted(Counter(found).items())) for name, found in values.items()}
