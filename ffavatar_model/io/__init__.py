"""Readers and writers of the model's files: checkpoints, avatars and splats. Files are written atomically."""
