"""Figures in one style, from frames and arrays."""
