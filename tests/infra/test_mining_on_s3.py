"""The same videos mined into a folder and into an S3 bucket give the same snapshot, digest for digest."""

from __future__ import annotations

from infra.storage import open_store
from mfhq.catalog import Catalog
from pipelines.plan import fingerprints
from pipelines.publishing.publish import mined_tables, publish


def test_a_folder_and_a_bucket_give_one_digest(s3_server, tmp_path, shared):
    conftest = shared("conftest")
    toy = conftest.load_toy()
    prints, made = fingerprints(toy.toy_steps(), toy.AFTER), []
    for store in (open_store(tmp_path), open_store("s3://corpora/mined")):
        conftest.run_toy(toy, store, 6)
        cut = mined_tables(store, prints)
        made.append(publish(store, prints, toy.assign(cut), tables=cut))
        again = conftest.run_toy(toy, store, 6, run_id="again")
        assert again["tracks"].before == again["tracks"].items > 0
        assert Catalog(store).open().query("@cost")["attempts"].to_pylist()
    assert made[0] == made[1] and made[0].rows["faces"] == 4 * 5
