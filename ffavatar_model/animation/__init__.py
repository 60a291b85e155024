"""Animation of avatars frame by frame."""
