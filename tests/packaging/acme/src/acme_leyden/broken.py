"""Wants something that is not installed."""
