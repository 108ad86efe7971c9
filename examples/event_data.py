"""An event data set: rates per time step, accuracy and energy if the run stopped earlier.

    python examples/event_data.py                                   # simulated events of digits, nothing to download
    python examples/event_data.py --model sdt_2_256_gesture --checkpoint gesture.pth.tar \\
        --data dvs128-gesture:/data/gesture --time-steps 16

Writes over_time.csv and sweep.csv.
"""

from __future__ import annotations

import argparse
import sys

import spikeattn as sa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sdt_digits_events")
    parser.add_argument("--checkpoint", help="without it: the weights that come with the package")
    parser.add_argument("--data", default="digits-events")
    parser.add_argument("--time-steps", type=int)
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    steps = {} if args.time_steps is None else {"time_steps": args.time_steps}
    model = sa.create_model(args.model, args.checkpoint, pretrained=args.checkpoint is None, **steps)
    recordings = sa.open_dataset(args.data, model, time_steps=args.time_steps)
    profile = sa.profile(model, sa.make_loader(recordings, batch_size=25, limit=args.images))
    for warning in profile.warnings:
        print("warning:", warning, file=sys.stderr)
    profile.over_time().to_csv("over_time.csv", index=False)
    sa.sweep(profile).to_csv("sweep.csv", index=False)
    print(profile.over_time().to_markdown(index=False, floatfmt=".4f"))
    print(f"energy {profile.energy().total}")


if __name__ == "__main__":
    main()
