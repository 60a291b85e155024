"""From step outputs to an audited, published snapshot."""
