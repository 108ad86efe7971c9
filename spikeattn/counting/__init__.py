"""Counting what the plan of a traced network names, during ordinary forward passes."""
