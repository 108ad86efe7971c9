"""LaTeX and Markdown: every table of the package is written here."""
