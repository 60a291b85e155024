"""Prefect flows, one module each, and the folders of what the command line ``ffavatar`` runs beside them."""
