"""The feed-forward head avatar: from 1 to N unposed photos to an animatable 3D Gaussian head."""
