"""Loaders, batches and their way to the device."""
