"""New tracks join who is there: as good as clustering everything, with no old vector read."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.identity.bcubed import bcubed
from pipelines.identity.constraints import SAME_IMAGE, TrackSpans, cannot_link_pairs
from pipelines.identity.incremental import join_new, sum_people
from pipelines.identity.linkage import cluster_rows
from pipelines.samples.synthetic_tracks import draw_tracks


def test_people_are_the_sums_of_their_tracks():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 2]]
    people = sum_people(vectors, np.array([0, 1, 0, 1]))
    assert people.label.tolist() == [0, 1] and people.sizes.tolist() == [2, 2]
    np.testing.assert_allclose(people.sums, [[2, 0, 0, 0], [0, 1, 1, 0]])
    nobody = sum_people(vectors[:0], np.empty(0, np.int64))
    assert nobody.sums.shape == (0, 4)


@pytest.mark.parametrize("width", [64, 200])
def test_joining_is_as_good_as_clustering_everything(width):
    tracks = draw_tracks(4000, width, 2)
    spans, n = TrackSpans(tracks.video, tracks.start, tracks.end), 3600
    everything = cluster_rows(tracks.vectors, spans, 0.5)
    old = cluster_rows(tracks.vectors[:n], spans.take(np.arange(n)), 0.5)
    joined = join_new(sum_people(tracks.vectors[:n], old), old, tracks.vectors[n:], spans, 0.5)
    np.testing.assert_array_equal(joined[:n], old), "nobody who was there moves"
    assert set(joined[n:]) & set(old) and (joined[n:] >= n).any(), "some join, some are new"
    assert bcubed(joined, tracks.person).f1 > bcubed(everything, tracks.person).f1 - 0.005
    cannot_link = cannot_link_pairs(tracks.vectors, spans, SAME_IMAGE)
    late = cannot_link[cannot_link[:, 1] >= n]
    assert len(late) > 50 and (joined[late[:, 0]] != joined[late[:, 1]]).all()


def test_the_first_tracks_ever_are_new_people():
    tracks = draw_tracks(300, 64, 4)
    spans = TrackSpans(tracks.video, tracks.start, tracks.end)
    nobody = sum_people(tracks.vectors[:0], np.empty(0, np.int64))
    joined = join_new(nobody, np.empty(0, np.int64), tracks.vectors, spans, 0.5)
    assert bcubed(joined, cluster_rows(tracks.vectors, spans, 0.5)).f1 == pytest.approx(1.0)
