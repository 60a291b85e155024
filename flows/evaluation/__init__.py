"""Evaluation of checkpoints on held-out people of a corpus, and submissions to the NeRSemble benchmark."""
