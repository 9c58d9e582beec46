"""What canonq keeps below its state folder, and the locks on it."""
