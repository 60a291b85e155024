"""Clustering of track embeddings into people."""
