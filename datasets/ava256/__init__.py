"""Ava-256 (CC BY-NC 4.0): a reader of its files as they are distributed, straight from the zips, and a writer.

Source of every convention: the data set's datasheet and published loader (github.com/facebookresearch/ava-256).
"""
