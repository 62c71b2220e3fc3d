"""What older generations of Lightning had: arguments, hooks, attributes, and the warnings that say what to write now."""
