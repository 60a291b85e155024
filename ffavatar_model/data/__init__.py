"""From a published snapshot to a training batch: index, sampling, images, augmentation, prefetch."""
