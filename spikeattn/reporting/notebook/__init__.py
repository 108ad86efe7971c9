"""What results look like in a notebook, and their plots: a module for every kind, with `html` and `plot`.

Results are below this room in the house; they ask for their module by name (`boundary.display`). `fragment` sets the
HTML in the page's own style, `into_axes` hands out axes.
"""
