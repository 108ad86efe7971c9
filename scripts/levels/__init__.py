"""What `scripts/attention_levels.py` is made of: networks, exchangeable maps, planted signals, the page."""
