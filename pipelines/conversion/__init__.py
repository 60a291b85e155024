"""Conversion of calibrated multi-view captures of any format into the tables of a corpus."""
