"""Driving one avatar frame by frame."""
