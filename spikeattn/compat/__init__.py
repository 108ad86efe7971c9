"""What differs between versions of other libraries, between machines, and between our own editions."""
