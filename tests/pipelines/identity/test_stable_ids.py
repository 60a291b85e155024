"""Ids survive where the people do; what became of the others is written down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.identity.stable_ids import Alias, stable_identities


def test_ids_survive_new_tracks_and_another_order():
    before, aliases = stable_identities([0, 0, 1], ["a", "b", "c"], {})
    assert not aliases and before["a"] == before["b"] != before["c"]
    after, aliases = stable_identities([5, 7, 7, 5, 9], ["c", "b", "a", "d", "e"], before)
    assert not aliases
    assert {t: after[t] for t in "abc"} == before
    assert after["d"] == before["c"] and after["e"] not in before.values()


def test_a_merge_leaves_an_alias():
    before = {"a": "X", "b": "X", "c": "Y"}
    after, aliases = stable_identities([0, 0, 0], ["a", "b", "c"], before)
    assert set(after.values()) == {"X"}
    assert aliases == [Alias("Y", "X", "merge")]


def test_a_split_keeps_the_id_with_the_larger_part_and_makes_a_new_one():
    first, _ = stable_identities([0, 0, 0], ["a", "b", "c"], {})
    after, aliases = stable_identities([0, 1, 1], ["a", "b", "c"], first)
    assert after["b"] == after["c"] == first["a"] and not aliases
    assert after["a"] not in first.values()  # though the old id was made from this very track


def test_an_id_that_is_spread_over_others_is_a_split_and_none_is_used_again():
    before = {"a": "X", "b": "X", "c": "Y", "d": "Y", "e": "Y", "f": "Z", "g": "Z", "h": "Z"}
    after, aliases = stable_identities([0, 1, 0, 0, 0, 1, 1, 1], list("abcdefgh"), before)
    assert aliases == [Alias("X", "Y", "split")]
    fresh, _ = stable_identities([0], ["n"], {})
    assert stable_identities([0], ["n"], after, retired={fresh["n"]})[0]["n"] != fresh["n"]


def test_a_track_that_is_gone_takes_nothing_with_it():
    after, aliases = stable_identities([0], ["a"], {"a": "X", "gone": "Y"})
    assert after == {"a": "X"} and not aliases


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20), st.randoms())
def test_one_id_a_cluster_and_the_order_does_not_matter(pairs, random):
    tracks = [f"t{i:02d}" for i in range(len(pairs))]
    before = {t: f"old{old}" for t, (old, _) in zip(tracks, pairs, strict=True) if old}
    labels = [new for _, new in pairs]
    after, aliases = stable_identities(labels, tracks, before)
    pairs_after = {(label, after[track]) for label, track in zip(labels, tracks, strict=True)}
    assert len(pairs_after) == len(set(labels)) == len(set(after.values()))
    assert {a.identity_id for a in aliases} == set(before.values()) - set(after.values())
    assert {a.now for a in aliases} <= set(after.values())
    order = list(range(len(tracks)))
    random.shuffle(order)
    assert stable_identities([labels[i] for i in order], [tracks[i] for i in order], before) == (after, aliases)
