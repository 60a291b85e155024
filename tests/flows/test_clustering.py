"""Neighbours of a large corpus are searched on Ray, block by block, and a search that was cut off goes on."""

from __future__ import annotations

import numpy as np
import pytest

from flows.cluster import search_on_ray
from infra.storage import open_store
from pipelines.identity import linkage
from pipelines.identity.constraints import TrackSpans
from pipelines.identity.linkage import cluster_rows, search_blocks
from pipelines.samples.synthetic_tracks import draw_tracks


@pytest.mark.ray
def test_blocks_on_ray_say_what_threads_say(ray_session, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(linkage, "EXACT", 100)
    monkeypatch.setattr(linkage, "BLOCK_SIZE", 1024)
    tracks, store = draw_tracks(3000, 128, 6), open_store(tmp_path)
    seen, searched = TrackSpans(tracks.video, tracks.start, tracks.end), []

    def on_ray(projected, members, at_least):
        searched.append(search_on_ray(settings, store, "run", projected, members, at_least))
        return searched[-1]

    here = cluster_rows(tracks.vectors, seen, 0.5, search=search_blocks)
    np.testing.assert_array_equal(cluster_rows(tracks.vectors, seen, 0.5, search=on_ray), here)
    markers = sorted(tmp_path.glob("biometric/clusterings/work/*/steps/neighbours/*/*/*.json"))
    assert markers, "each block is committed"
    markers[0].unlink()  # as a kill leaves it: one part of one shard is not committed
    left = {path: path.stat().st_mtime_ns for path in markers[1:]}
    np.testing.assert_array_equal(cluster_rows(tracks.vectors, seen, 0.5, search=on_ray), here)
    assert markers[0].exists() and {path: path.stat().st_mtime_ns for path in markers[1:]} == left
