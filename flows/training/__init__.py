"""What a training worker runs: the data sets of a stage, the job, and torchrun."""
