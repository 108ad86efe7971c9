"""The version of this package. This line is the one place: the installed package's version is read from it.

CITATION.cff names the last release, CHANGELOG.md lists all (tests/test_release.py); scripts/release.py sets all three.
"""

__version__ = "0.2.0.dev0"
