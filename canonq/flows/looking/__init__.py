"""What people look at, and what they are told."""
