"""NeRSemble's recordings, and the benchmark's, into captures: plan, videos side by side, head-centred crops."""
