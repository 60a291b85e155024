"""Corpus format MFHQ: schemas of the tables, ids that depend on content, and published snapshots."""
