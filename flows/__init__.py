"""Prefect flows, one module per flow, and folders with everything else that the command line ``ffavatar`` runs."""
