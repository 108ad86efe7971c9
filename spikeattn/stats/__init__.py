"""Intervals over images: resampling, one mean, the ratio of two."""
