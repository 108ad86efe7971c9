"""The attention of a `Study`: its pictures, its tables, its summary."""
