"""One run: its stacks, tier by tier, and what is seen of them."""
