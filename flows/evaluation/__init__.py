"""Evaluation of checkpoints: on held-out people of a corpus, and on the NeRSemble benchmark."""
