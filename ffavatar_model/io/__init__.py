"""Files of the model: checkpoints, avatars and splats, each written atomically."""
