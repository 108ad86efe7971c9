"""What a paper takes from a run: tables, the methods paragraph, the sources."""
