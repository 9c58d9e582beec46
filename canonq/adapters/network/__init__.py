"""What is asked over a network: apps, ingress, registries, forges, other hosts."""
