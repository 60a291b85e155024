"""The capture studio: a ray-cast renderer of the open head, with ground truth for every image."""
