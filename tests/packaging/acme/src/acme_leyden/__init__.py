"""Plug-ins of a stranger, who has nothing but leyden's documentation."""
