"""Sample clips made from what installed packages ship, for a first run without any data."""

from pipelines.samples.make import SampleClip, make_samples, read_truth

__all__ = ["SampleClip", "make_samples", "read_truth"]
