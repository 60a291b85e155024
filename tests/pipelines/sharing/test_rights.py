"""Permissions that follow from a licence and a consent, as people write them in lists of sources."""

from __future__ import annotations

import pytest

from pipelines.sharing.rights import REASONS, UNCLEAR, judge_rights


@pytest.mark.parametrize(
    ("licence", "consent", "name", "said", "refusal"),
    [
        ("CC BY", None, "CC-BY", "not stated", ""),
        ("cc-by-nc-4.0", "yes", "CC-BY-NC-4.0", "given", ""),
        ("Creative Commons Attribution 4.0", "signed form", "CC-BY-4.0", "given", ""),
        ("CC0", "form 12", "CC0-1.0", "stated otherwise", ""),
        ("CC BY-NC-ND 4.0", "given", "CC-BY-NC-ND-4.0", "given", "licence_no_derivatives"),
        ("CC BY", "withdrawn in May", "CC-BY", "refused", "consent_refused"),
        ("CC BY", "not given", "CC-BY", "refused", "consent_refused"),
        ("CC BY", "No", "CC-BY", "refused", "consent_refused"),
        ("CC BY, no redistribution", None, "CC-BY", "not stated", "licence_no_redistribution"),
        ("All rights reserved", "given", "other terms", "given", "licence_no_redistribution"),
        ("NeRSemble terms of use", "given", "other terms", "given", "licence_no_redistribution"),
        ("contract 7 with the studio", "given", "other terms", "given", "licence_not_recognised"),
        ("", "given", "not stated", "given", "licence_not_stated"),
        (None, None, "not stated", "not stated", "licence_not_stated"),
    ],
)
def test_texts_of_a_source_list_are_judged(licence, consent, name, said, refusal):
    rights = judge_rights(licence, consent)
    assert (rights.licence, rights.consent, rights.refusal) == (name, said, refusal)
    assert not refusal or refusal in REASONS


def test_only_what_nobody_knows_can_be_overruled():
    assert {judge_rights("", "given").refusal, judge_rights("contract 7", "given").refusal} == UNCLEAR
