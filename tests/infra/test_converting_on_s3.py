"""Ava-256 converted out of a bucket gives the views that a folder gives: zips are read in place there too."""

from __future__ import annotations

from infra.storage import open_store
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256


def test_a_bucket_gives_what_a_folder_gives(ava256_source, s3_server):
    capture = sorted(ava256_source.glob("*--*"))[0]
    bucket = open_store("s3://corpora/ava")
    for path in sorted(p for p in (capture / "decoder").rglob("*") if p.is_file()):
        if "uv_image" not in path.parts and "keypoints_3d" not in path.parts:
            bucket.write(str(path.relative_to(ava256_source)), path.read_bytes())
    config = Ava256Config(size=48, cameras=("400940", "400943"))
    made = []
    for source, filesystem in ((str(capture), None), ("s3://corpora/ava", bucket.filesystem)):
        plan = plan_ava256(source, config, filesystem)
        rows = plan.step.fn(plan.step.load(), plan.items).to_pylist()
        made.append([{name: value for name, value in row.items() if name != "item_id"} for row in rows])
    assert made[0] == made[1] and sum(view["status"] == "ok" for row in made[0] for view in row["views"]) >= 5
