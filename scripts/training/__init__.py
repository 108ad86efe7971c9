"""What `scripts/train.py` is made of: the data, the run with its checkpoints, and the card of the weights."""
