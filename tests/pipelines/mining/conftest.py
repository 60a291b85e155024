"""The made-up videos of the media tests."""

from tests.pipelines.media.conftest import videos

__all__ = ["videos"]
