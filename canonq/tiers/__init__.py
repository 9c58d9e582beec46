"""The generic proofs, one pytest module for each tier, run in a process of their own for every recipe."""
