"""What log() keeps, and how it becomes records."""
