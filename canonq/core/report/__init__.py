"""What the morning's report says of facts: standing of each recipe, words, changes between sweeps, plots' values. Pure."""
