"""What a person writes to enrol a recipe: what to propose, and what is nearly right."""
