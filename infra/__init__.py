"""Adapters to services and to the machine: storage, Ray, MLflow, settings, terminal, local web pages, memory."""
