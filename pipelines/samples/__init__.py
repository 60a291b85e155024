"""Sample clips made from the photographs of installed packages, and rendered ones, for a first run without any data."""

from pipelines.samples.make import SampleClip, make_samples, read_truth

__all__ = ["SampleClip", "make_samples", "read_truth"]
