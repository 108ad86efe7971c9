"""Prepared copies of networks for speed: same spikes, counted by the kernels that make them."""
