"""Decoder and file access, shared by the steps that open videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhq.ids import digest_file
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.local_files import is_remote, local_file
from pipelines.media.source_copies import BytesDiffer, SourceCopies
from pipelines.mining.config import MiningConfig

SOURCE_CHANGED = "source_changed"
"""Reason: the file has other bytes than when its id was computed: it was replaced under its name."""


class SourceChanged(RuntimeError):
    """Error for a file whose bytes are not those of its ``video_id``."""


@dataclass
class VideoTools:
    """Decoder of one worker."""

    decoder: ProcessDecoder
    config: MiningConfig
    filesystem: Any = None
    """fsspec, for sources that are not local."""

    @contextmanager
    def local(self, uri: str, video_id: str = "") -> Iterator[Path]:
        """Yield the path of a source, as a local file.

        Args:
            uri: The source.
            video_id: Digest that the file's bytes must have; empty if it is not known yet.

        Raises:
            SourceChanged: The bytes have another digest.
        """
        if is_remote(uri) and self.filesystem is not None:
            try:
                with SourceCopies(self.filesystem).open(uri, video_id) as path:
                    yield path
            except BytesDiffer as error:
                raise SourceChanged(str(error)) from None
            return
        with local_file(uri, self.filesystem) as path:
            if video_id:
                with path.open("rb") as stream:
                    if digest_file(stream) != video_id:
                        raise SourceChanged(f"{uri}: other bytes than those of {video_id[:12]}; mine it again")
            yield path

    def release(self, uri: str, video_id: str) -> None:
        """Remove the copy of a remote source that no step reads again.

        Args:
            uri: The source.
            video_id: Digest of its bytes.
        """
        if is_remote(uri) and self.filesystem is not None:
            SourceCopies(self.filesystem).remove(video_id)

    def set_limit(self, path: Path, duration_s: float | None) -> None:
        """Give the decoder the time that a file may take (``MiningConfig.decode_limit``).

        Args:
            path: The file.
            duration_s: Duration that its container states, seconds; None if it is unknown.
        """
        self.decoder.limit_s = self.config.decode_limit(duration_s or 0.0, path.stat().st_size)


def video_tools(config: MiningConfig, filesystem: Any = None) -> VideoTools:
    """Return a decoder with the config's limits; it starts its process with its first file.

    Args:
        config: Threads and time limits of the decoder.
        filesystem: fsspec, for sources that are not local.
    """
    decoder = ProcessDecoder(
        threads=config.decode_threads,
        backend=config.decoder,
        silence_s=config.decode_silence_s,
        limit_s=config.decode_limit_s,
    )
    return VideoTools(decoder, config, filesystem)
