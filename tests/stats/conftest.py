"""The ledger, counts and profile of tests/energy, for intervals of energies."""

from tests.energy.conftest import counts, ledger, only, profile, spikes  # noqa: F401
