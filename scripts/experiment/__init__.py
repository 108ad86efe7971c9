"""The parts of `attention_experiment.py`: data, networks, what is measured, and the page."""
