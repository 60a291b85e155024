"""Training data, from a published snapshot to a batch: index, sampling, images, augmentation and prefetching."""
