"""Ava-256 (CC BY-NC 4.0): its files as they are distributed, read straight from the zips, and written alike.

Source of every convention: the data set's datasheet and published loader (github.com/facebookresearch/ava-256).
"""
