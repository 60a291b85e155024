"""The feed-forward head avatar: 1 to N unposed photos become an animatable 3D Gaussian head."""
