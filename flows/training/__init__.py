"""Training workers: the data sets of a stage, the job of a Ray worker, and training with torchrun."""
