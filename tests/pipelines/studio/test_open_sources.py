"""Sources of people by name, and what they say about assets that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.looks.dressed_people import PEOPLE, identity_ids, open_people
from tests.support.valid_kit import write_valid_kit


def test_each_source_opens_by_its_name(studio_head, tmp_path):
    head = studio_head.model
    kits = {"open": None, "valid": write_valid_kit(tmp_path)}
    sources = {name: open_people(name, cache_dir(), lambda _: head, kit) for name, kit in kits.items()}
    assert set(PEOPLE) == {*sources, "ict"}, "for ict see test_ict_people"
    assert {name: source.name for name, source in sources.items()} == {"open": "open", "valid": "valid"}
    assert [source.training_allowed for source in sources.values()] == [True, False]
    assert len(set(identity_ids(sources["open"], 5, 1))) == 5 and identity_ids(sources["valid"], 1, 3) == ["One"]
    assert identity_ids(sources["open"], 3, 1) != identity_ids(sources["open"], 3, 2)
    with pytest.raises(ValueError, match="source 'valid' has 2 people, not 3"):
        identity_ids(sources["valid"], 3, 0)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("valid", None, "people 'valid' need assets: name the folder of a kit with --assets"),
        ("ict", None, "people 'ict' need assets"),
        ("ict", {"SHA256SUMS": ""}, r"lacks ict/ict_facekit_light\.npz"),
        ("valid", {"SHA256SUMS": ""}, r"lacks valid/topology\.npz"),
        ("ict", {"FaceXModel/x.obj": ""}, r"generic_neutral_mesh\.obj cannot be read"),
        ("valid", {"x": ""}, "no readable SHA256SUMS"),
        ("anny", None, "people 'anny': there are open, ict, valid"),
    ],
)
def test_what_is_missing_is_one_line(studio_head, tmp_path: Path, name, files, message):
    for place, text in (files or {}).items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_people(name, cache_dir(), lambda _: studio_head.model, tmp_path if files is not None else None)
