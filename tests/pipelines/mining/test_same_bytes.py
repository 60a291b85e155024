"""Files with the same bytes: their licence and consent are joined, and a contradiction is an error that names both."""

from __future__ import annotations

import pytest

from infra.storage import open_store
from pipelines.mining.digests import digest_sources
from pipelines.mining.source_listing import list_sources
from pipelines.mining.source_lists import SourceError


def digested(folder, lines):
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"the same film")
    (folder / "list.csv").write_text("\n".join(["uri,licence,consent", *lines]))
    return digest_sources(list_sources(folder / "list.csv"), open_store(folder / "corpus")).to_pylist()


def test_what_one_copy_lacks_is_taken_from_the_other(tmp_path):
    (row,) = digested(tmp_path, ["a.mp4,,yes", "b.mp4,CC0,"])
    assert row["uri"].endswith("a.mp4") and (row["licence"], row["consent"]) == ("CC0", "yes")


def test_copies_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"a\.mp4 and .*b\.mp4 have the same bytes, and licence 'CC0' and 'CC-BY'"):
        digested(tmp_path, ["a.mp4,CC0,", "b.mp4,CC-BY,"])
