"""Evidence: JSON of finished experiments, and what turns it into docs/."""
