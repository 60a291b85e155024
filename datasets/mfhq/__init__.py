"""Corpus MFHQ: the schemas of its tables, ids from content, and published snapshots."""
