"""Energy models by name, each with its record: what a figure has besides arithmetic, and what that costs."""
