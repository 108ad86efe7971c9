"""The simulated saccade against a slow oracle, and what must hold for every event camera on a closed path."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import spikeattn as sa
from spikeattn.data import DATA
from spikeattn.data.digits import Digits
from spikeattn.data.digits_events import DigitsEvents, events_of
from spikeattn.errors import SpikeattnError


def brightness(picture: list[list[Fraction]], y: Fraction, x: Fraction) -> Fraction:
    """Bilinear, black outside."""
    total = Fraction(0)
    for row in range(len(picture)):
        for column in range(len(picture[0])):
            near = max(Fraction(0), 1 - abs(y - row)) * max(Fraction(0), 1 - abs(x - column))
            total += near * picture[row][column]
    return total


def simulate(picture: list[list[Fraction]], time_steps: int) -> torch.Tensor:
    """The saccade in exact fractions, pixel by pixel: [T, 2, H, W]."""
    H, W = len(picture), len(picture[0])
    quarter, theta = Fraction(1, 4), Fraction(1, 8)
    moves = [(0, 1)] * 8 + [(1, 0)] * 8 + [(0, -1)] * 8 + [(-1, 0)] * 8
    counts = torch.zeros(time_steps, 2, H, W, dtype=torch.int32)
    for y in range(H):
        for x in range(W):
            down = right = Fraction(0)
            last = picture[y][x]
            for step, (dy, dx) in enumerate(moves):
                down, right = down + dy * quarter, right + dx * quarter
                now = brightness(picture, y - down, x - right)
                while abs(now - last) >= theta:
                    brighter = now > last
                    counts[step * time_steps // 32, int(brighter), y, x] += 1
                    last += theta if brighter else -theta
    return counts


@pytest.mark.parametrize("time_steps", [1, 4])
def test_simulation_equals_the_slow_one(time_steps):
    levels = torch.randint(0, 257, (2, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    wanted = [simulate([[Fraction(v, 256) for v in row] for row in one.tolist()], time_steps) for one in levels]
    assert torch.equal(events_of(levels, time_steps), torch.stack(wanted))


def test_what_goes_up_comes_down_on_a_closed_path():
    frames = DigitsEvents().images
    assert torch.equal(frames[:, :, 0].sum(1), frames[:, :, 1].sum(1))
    assert events_of(torch.zeros(1, 6, 6, dtype=torch.int32), 4).sum() == 0


def test_fewer_frames_are_sums_of_more():
    four, two = DigitsEvents(time_steps=4), DigitsEvents(time_steps=2)
    assert torch.equal(four.images.unflatten(1, (2, 2)).sum(2), two.images)


def test_samples_labels_and_description():
    events, digits = sa.open_dataset("digits-events"), Digits()
    frames, label = events[3]
    assert frames.shape == (4, 2, 16, 16) and frames.dtype == torch.float32
    assert torch.equal(events.labels, digits.labels) and label == int(digits.labels[3])
    assert len(events) == 360 and len(DigitsEvents("train")) == 1437
    assert events.id(3).removeprefix("digits-events/") == digits.id(3).removeprefix("digits/")
    assert (events.images == events.images.round()).all() and (events.images.sum((1, 2, 3, 4)) > 0).all()
    assert "SIMULATED" in events.provenance()["transform"] and events.provenance()["simulated"] is True
    assert "SIMULATED" in DATA["digits-events"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(SpikeattnError, match="time_steps=5; the saccade divides into 1, 2, 4, 8, 16, 32"):
        sa.open_dataset("digits-events", time_steps=5)
    with pytest.raises(SpikeattnError, match="takes no path"):
        sa.open_dataset("digits-events:somewhere")
    with pytest.raises(SpikeattnError, match="2x16x16 but the model takes 1x16x16"):
        sa.open_dataset("digits-events", sa.create_model("sdt_digits"))
    with pytest.raises(SpikeattnError, match="split"):
        sa.open_dataset("digits-events", split="val")


def test_the_model_sets_the_frames():
    model = sa.create_model("sdt_digits_events", time_steps=8)
    assert sa.open_dataset("digits-events", model)[0][0].shape == (8, 2, 16, 16)
