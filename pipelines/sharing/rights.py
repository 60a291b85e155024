"""Rights of a source file: what its licence and consent, as the source list states them, let one pass on.

The texts are written by hand, so a card shows the names below and never the texts, which may name a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NOT_STATED, OTHER = "not stated", "other terms"
GIVEN, REFUSED, STATED_OTHERWISE = "given", "refused", "stated otherwise"

NO_CONSENT = "consent_refused"
NO_DERIVATIVES = "licence_no_derivatives"
NO_REDISTRIBUTION = "licence_no_redistribution"
NO_LICENCE = "licence_not_stated"
UNKNOWN_LICENCE = "licence_not_recognised"

UNCLEAR = frozenset({NO_LICENCE, UNKNOWN_LICENCE})
"""Reasons that say that nothing is known; the user may decide to export such files. The other reasons forbid it."""

REASONS = {
    NO_CONSENT: "the people in the file refused, or withdrew their consent",
    NO_DERIVATIVES: "the licence forbids derivatives, which a crop of a face is",
    NO_REDISTRIBUTION: "the licence forbids passing the file on",
    NO_LICENCE: "the source list states no licence",
    UNKNOWN_LICENCE: "the source list states terms that this program does not know",
}
"""Reason for which a file's faces are not exported → its meaning."""

_CREATIVE = re.compile(r"\bcc[- ]by((?:[- ](?:nc|nd|sa))*)(?:[- ]v?(\d\.\d))?")
_FREE = {
    re.compile(r"\bcc[- ]?0\b|publicdomain/zero"): "CC0-1.0",
    re.compile(r"public[- ]domain"): "public domain",
    re.compile(r"^mit( licen[cs]e)?$"): "MIT",
    re.compile(r"^apache([- ](licen[cs]e|2(\.0)?))*$"): "Apache-2.0",
}
_CLOSED = re.compile(
    r"all rights reserved|redistribut|not (be )?(distribut|pass)|\bno[- ]distribut|internal|confidential|proprietary"
    r"|nersemble"
)
_REFUSALS = re.compile(
    r"^(no|n|false|0|none)$|\b(not (given|granted|signed|obtained)|no consent|refus|declin|denied|withdr|revok|pending)"
)
_CONSENTS = re.compile(r"^(yes|y|true|1)$|\b(given|granted|signed|obtained|consented|informed)\b")


@dataclass(frozen=True)
class Rights:
    """Rights of a source file."""

    licence: str
    """Name of the licence, ``OTHER`` or ``NOT_STATED``."""
    consent: str
    """``GIVEN``, ``REFUSED``, ``STATED_OTHERWISE`` or ``NOT_STATED``."""
    refusal: str
    """Reason for which the file's faces are not exported (``REASONS``); empty if they may be."""


@lru_cache(maxsize=4096)
def judge_rights(licence: str | None, consent: str | None) -> Rights:
    """Judge what the licence and the consent of a source file allow.

    Args:
        licence: Text of the column ``videos.licence``.
        consent: Text of the column ``videos.consent``.
    """
    name, said = _name_licence(licence), _classify_consent(consent)
    return Rights(name, said, NO_CONSENT if said == REFUSED else _licence_refusal(name, licence or ""))


def _plain(text: str | None) -> str:
    return " ".join((text or "").casefold().replace("_", " ").split())


def _name_licence(text: str | None) -> str:
    plain = _plain(text)
    if not plain:
        return NOT_STATED
    if found := _CREATIVE.search(plain.replace("creative commons", "cc").replace("attribution", "by")):
        terms = sorted({term.upper() for term in re.findall(r"nc|nd|sa", found[1])})
        return "-".join(["CC-BY", *terms, *([found[2]] if found[2] else [])])
    return next((name for pattern, name in _FREE.items() if pattern.search(plain)), OTHER)


def _classify_consent(text: str | None) -> str:
    plain = _plain(text)
    if not plain:
        return NOT_STATED
    if _REFUSALS.search(plain):
        return REFUSED
    return GIVEN if _CONSENTS.search(plain) else STATED_OTHERWISE


def _licence_refusal(name: str, text: str) -> str:
    if name == NOT_STATED:
        return NO_LICENCE
    if _CLOSED.search(_plain(text)):
        return NO_REDISTRIBUTION
    if "ND" in name.split("-"):
        return NO_DERIVATIVES
    return UNKNOWN_LICENCE if name == OTHER else ""
