"""The ledger and counts of tests/energy, for intervals of energies."""

from tests.energy.conftest import counts, ledger, only, spikes  # noqa: F401
