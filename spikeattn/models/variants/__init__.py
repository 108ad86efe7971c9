"""Transformers changed after a publication: SVDA, its spiking form, BR-NPA heads, finer feature maps."""
