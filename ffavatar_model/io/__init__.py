"""Files of the model: checkpoints, avatars and splats, written whole or not at all."""
