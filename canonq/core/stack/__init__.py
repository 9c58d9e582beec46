"""The resolved stack: what it is, what may be in it, what is said of it, and whether it is up."""
