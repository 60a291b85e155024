"""The frames of a stream by number: which numbers and times its packets give, read without decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

WITHOUT_TIMES = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "ivf"})
"""Formats, by FFmpeg's names, that do not say when a frame is shown."""
SEEKABLE = frozenset({"mov", "matroska"})
"""Formats with an index and times, by the first of FFmpeg's names: decoding may begin at any keyframe."""
WITH_HIDDEN_PACKETS = frozenset({"vp8", "vp9"})
"""Codecs that have packets for reference only, with the time of the frame that follows them."""


class PacketTimes(NamedTuple):
    """Times of a packet in the stream's time base."""

    pts: int | None
    """Time at which the packet's frame is shown."""
    dts: int | None
    """Time at which the packet is decoded."""
    shown: bool
    """False if an edit list cuts the packet's frame."""


@dataclass(frozen=True)
class Timeline:
    """Numbers and times of the frames of a stream.

    If every packet says when its frame is shown, a frame is named by that time, and its index is the rank of the time.
    Otherwise it is named by its place among the decoded frames.
    """

    times: Sequence[int]
    """Presentation times in units of ``time_base``, ascending; if frames are named by order, the best known ones."""
    time_base: Fraction
    """Unit of ``times``, seconds."""
    by_time: bool
    """True if frames are named by their times."""
    seekable: bool
    """True if decoding may begin at a keyframe instead of the first frame."""
    n_packets: int
    """Number of packets, with those that are not shown."""
    n_cut: int
    """Number of packets that an edit list cuts."""
    n_missing: int
    """Number of packets that the container promises beyond its last packet: the file was cut off."""
    _index_of: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.by_time:
            self._index_of.update({time: index for index, time in enumerate(self.times)})

    def index(self, pts: int | None, position: int) -> int | None:
        """Return a frame's index; None if the file's packets have no such frame.

        Args:
            pts: Presentation time of the decoded frame.
            position: Number of frames decoded before it, from the start of the stream.
        """
        if not self.by_time:
            return position
        return None if pts is None else self._index_of.get(pts)

    def seconds(self, index: int) -> float:
        """Return the time of a frame from the first one on, seconds.

        Args:
            index: Index of the frame.
        """
        last = len(self.times) - 1
        ticks: float = self.times[min(index, last)] - self.times[0] if self.times else 0
        if index > last:  # more frames than packets: the rate goes on
            ticks += (
                (index - max(last, 0)) * (self.times[-1] - self.times[0]) / last if last > 0 else index - max(last, 0)
            )
        return float(ticks * self.time_base)


def read_timeline(
    packets: Iterable[PacketTimes],
    time_base: Fraction,
    *,
    format_name: str,
    codec: str,
    rate: Fraction | None,
    promised: int | None,
) -> Timeline:
    """Number the frames of a stream.

    Args:
        packets: The stream's packets in the order of the file.
        time_base: Unit of their times, seconds.
        format_name: FFmpeg's name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: FFmpeg's name of the codec.
        rate: Frames per second, if known.
        promised: Number of packets that the container states; None if it states none.
    """
    packets = list(packets)
    family = format_name.split(",")[0]
    shown = [packet for packet in packets if packet.shown]
    shown_at = [packet.pts for packet in shown if packet.pts is not None]
    unique = sorted(set(shown_at))
    decoded_at = [packet.dts for packet in packets if packet.dts is not None]
    ascending = all(a <= b for a, b in pairwise(decoded_at))
    each_once = len(unique) == len(shown_at) or codec in WITH_HIDDEN_PACKETS
    by_time = len(shown_at) == len(shown) and each_once and ascending and family not in WITHOUT_TIMES
    times: Sequence[int] = unique
    if not by_time:
        times, time_base = _times_by_order(shown, ascending, time_base, rate)
    reached = len(packets)
    if family == "avi" and decoded_at:  # the header counts ticks: a frame may last several
        reached = max(reached, decoded_at[-1] - min(0, decoded_at[0]) + 1)
    return Timeline(
        times=times,
        time_base=time_base,
        by_time=by_time,
        seekable=by_time and family in SEEKABLE,
        n_packets=len(packets),
        n_cut=len(packets) - len(shown),
        n_missing=max(0, (promised or 0) - reached),
    )


def _times_by_order(
    shown: Sequence[PacketTimes], ascending: bool, time_base: Fraction, rate: Fraction | None
) -> tuple[Sequence[int], Fraction]:
    """Return (times, their unit) of frames that are named by order.

    Frames are shown at the times at which packets are decoded, late by a constant, if these are known; else at the
    stated rate, or at 25 frames per second if there is none.
    """
    decoded_at = [packet.dts for packet in shown if packet.dts is not None]
    if ascending and len(set(decoded_at)) == len(shown):
        return sorted(decoded_at), time_base
    return range(len(shown)), 1 / Fraction(rate or 25)
