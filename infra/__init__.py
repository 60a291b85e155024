"""Adapters: storage, Ray session, Ray Train, tracking, settings."""
