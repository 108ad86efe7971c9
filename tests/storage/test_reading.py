"""A finished run is read, rated and priced without torch: its two files are all that is needed."""

from __future__ import annotations

import subprocess
import sys

import spikeattn as sa
from tests.counting.networks import batches, tiny_sdt
from tests.models.sdt_oracle import exact_input

READ = """
import sys
import spikeattn as sa
profile = sa.Profile.load(sys.argv[1])
profile.rates(), profile.operations(), profile.over_time(), profile.components(model="compute")
print(profile.energy().total.value, profile.summary()["ann_macs"], len(sa.sweep(profile)))
sys.exit("torch" in sys.modules)
"""


def test_a_run_is_read_without_torch_and_gives_the_same_numbers(tmp_path) -> None:
    profile = sa.profile(tiny_sdt(), batches(exact_input(4, 3, 16, 16), 2), out=tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [float(number) for number in done.stdout.split()]
    assert found == [profile.energy().total.value, profile.summary()["ann_macs"], len(sa.sweep(profile))]
