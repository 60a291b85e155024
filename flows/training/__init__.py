"""Training workers: the data sets of a stage, the job, and torchrun."""
