"""Networks whose energy was measured on a chip, run or replayed here; see `measured_energy.py`."""
