"""Evaluation of checkpoints: held-out people, and submissions to the NeRSemble benchmark."""
