"""Sample clips for a first run without data, made from photographs in installed packages and by rendering."""

from pipelines.samples.make import SampleClip, make_samples, read_truth

__all__ = ["SampleClip", "make_samples", "read_truth"]
