"""A night over all recipes, on one host or several, and what it would take."""
