"""Ava-256 (CC BY-NC 4.0): a reader of its files, directly from the distributed zips, and a writer.

All conventions are those of the data set's datasheet and published loader (github.com/facebookresearch/ava-256).
"""
