"""The model's networks: encoder, query former, Gaussian decoder, estimator, and the rig that they drive."""
