"""The split of a person: train, val or test."""

from __future__ import annotations

import hashlib

from pipelines.publishing.publish_presets import Preset

TRAIN, VAL, TEST = "train", "val", "test"


def split_of_identity(identity_id: str, preset: Preset) -> str:
    """Return the split of a person: train, val or test.

    The split depends on a hash of the id alone, so it stays the same when people are added.

    Args:
        identity_id: The person.
        preset: Shares of val and test.
    """
    share = int(hashlib.sha256(b"split:" + identity_id.encode()).hexdigest()[:12], 16) / 16**12
    if share < preset.test_share:
        return TEST
    return VAL if share < preset.test_share + preset.val_share else TRAIN
