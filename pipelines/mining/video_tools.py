"""Decoders and file access, shared by the steps that open videos."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.media.decoder import ProcessDecoder
from pipelines.media.local_files import local_file
from pipelines.mining.config import MiningConfig


@dataclass
class VideoTools:
    """Decoders of one worker; the second (PyAV) decodes files that the first (decord) cannot."""

    first: ProcessDecoder
    second: ProcessDecoder
    filesystem: Any = None
    """fsspec, for sources that are not local."""

    def local(self, uri: str) -> AbstractContextManager[Path]:
        """Return a context manager that makes the source a local file and yields its path."""
        return local_file(uri, self.filesystem)


def video_tools(config: MiningConfig, filesystem: Any = None) -> VideoTools:
    """Return decoders with the config's limits; each starts its process with its first file.

    Args:
        config: Threads and time limits of a decoder.
        filesystem: fsspec, for sources that are not local.
    """
    first, second = (
        ProcessDecoder(
            backend=backend,
            threads=config.decode_threads,
            silence_s=config.decode_silence_s,
            limit_s=config.decode_limit_s,
        )
        for backend in ("decord", "pyav")
    )
    return VideoTools(first, second, filesystem)
