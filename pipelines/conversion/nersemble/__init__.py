"""Conversion of the recordings of NeRSemble and its benchmark: plan, synchronous videos, head-centred crops."""
