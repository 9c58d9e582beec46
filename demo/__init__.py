"""What the demonstration and the real tests run on: small images, recipes with a history, and their enrolments."""
