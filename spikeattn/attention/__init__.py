"""Attention maps, what of them is distinguishable from noise, and what is left of them then."""
