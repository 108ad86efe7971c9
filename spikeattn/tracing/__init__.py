"""What a forward pass does: a trace of its operations, and the plan of what to count where."""
