"""Parts of flows that are runs of Prefect: types of parameters, logs, retries."""
