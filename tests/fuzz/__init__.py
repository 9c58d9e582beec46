"""Random bad input: whatever comes from outside gives an answer or one of the project's own errors, and soon."""
