"""Train a model of spikeattn through timm: its optimisers, schedules and augmentation.

    python scripts/train.py --model sdt_digits_events --data digits-events --epochs 40 --out weights.safetensors
    python scripts/train.py --model sdt_2_256 --data cifar10:DIR --minutes 15 --device cuda --workers 12 \\
        --precision bf16 --batch-size 256 --lr 1e-3 --auto-augment rand-m9-n1-mstd0.4-inc1 --cutmix 1 --mixup 0.5 \\
        --out sdt_2_256.safetensors

The weights after the last epoch are written as safetensors, with a card: data, seed, epochs, test accuracy with its
interval, firing rates, versions and this command. The test accuracy of the epochs before is logged and decides nothing.
--minutes fits the number of epochs, and with it the schedule, to a time budget. After every epoch the whole state is
in --state; `--resume FILE` with the same settings goes on from there. Augmentation of pictures runs in --workers
processes: padded crop, mirroring, RandAugment and random erasing by timm's create_transform, then Mixup and CutMix of
whole batches on the device. Digits and events are only shifted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from timm.models import model_entrypoint
from training.card import write_weights
from training.run import Run

import spikeattn as sa
from spikeattn.cli.options import model_arguments
from spikeattn.models import model_names, select_implementation, twin_names


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a model of spikeattn through timm.")
    add = parser.add_argument
    add("--model", required=True, choices=[*model_names(), *twin_names()], metavar="NAME", help="sdt_... or ann_...")
    add("--data", required=True, metavar="SPEC", help="digits, digits-events, nmnist:PATH or cifar10:PATH")
    add("--out", required=True, type=Path, metavar="FILE", help="safetensors file of the weights and their card")
    add("--log", type=Path, metavar="FILE", help="table of the epochs (default: --out with .csv)")
    add("--state", type=Path, metavar="FILE", help="checkpoint to resume from (default: --out with .state.pt)")
    add("--resume", type=Path, metavar="FILE", help="go on from this checkpoint")
    add("--epochs", type=int, metavar="N")
    add("--minutes", type=float, metavar="M", help="instead of --epochs: as many as fit, start and test included")
    add("--stop-after", type=float, metavar="M", help="stop this process after M minutes; --resume goes on")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=64, metavar="N")
    add("--opt", default="adamw", metavar="NAME", help="an optimiser of timm (default: adamw)")
    add("--lr", type=float, default=3e-3, help="peak learning rate (default: 3e-3)")
    add("--min-lr", type=float, default=1e-6)
    add("--weight-decay", type=float, default=0.05)
    add("--sched", default="cosine", metavar="NAME", help="a schedule of timm (default: cosine)")
    add("--warmup-epochs", type=int, default=4, metavar="N")
    add("--smoothing", type=float, default=0.1, help="of the labels (default: 0.1)")
    add("--shift", type=int, default=1, metavar="PIXELS", help="random shift, black coming in (default: 1)")
    add("--hflip", type=float, default=0.5, help="probability of a mirrored picture (default: 0.5)")
    add("--auto-augment", metavar="POLICY", help="timm's, such as rand-m9-n1-mstd0.4-inc1; pictures only")
    add("--reprob", type=float, default=0.0, help="probability of random erasing; pictures only")
    add("--mixup", type=float, default=0.0, metavar="ALPHA")
    add("--cutmix", type=float, default=0.0, metavar="ALPHA", help="pictures only")
    add("--mixup-prob", type=float, default=1.0, help="share of batches with Mixup or CutMix (default: 1)")
    add("--plain-epochs", type=int, default=0, metavar="N", help="neither of them in the last N epochs (default: 0)")
    add("--test-every", type=int, default=1, metavar="N", help="epochs between two logged test accuracies (default: 1)")
    add("--ema", type=float, metavar="DECAY", help="write the moving average of the weights instead")
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="autocast of the training")
    add("--compile", action="store_true", help="torch.compile the model")
    add("--half", action="store_true", help="write float16 weights; the card's accuracy is theirs")
    add("--limit", type=int, metavar="N", help="N random samples of each split, for a trial")
    add("--model-arg", action="append", metavar="KEY=VALUE", help="argument of the model; repeatable")
    add("--neurons", default="auto", choices=("auto", "triton", "native", "torch"), help="on CUDA (default: auto)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--workers", type=int, default=0, metavar="N", help="processes that augment ahead")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if (args.epochs is None) == (args.minutes is None):
        parser.error("give either --epochs N or --minutes M")
    if args.cutmix and not args.data.startswith("cifar10:"):
        parser.error("--cutmix cuts pictures; frames of events take --mixup only")
    args.log = args.log or args.out.with_suffix(".csv")
    args.state = args.state or args.out.with_suffix(".state.pt")
    return args


def main() -> None:
    args = options()
    torch.set_num_threads(args.threads)
    select_implementation(args.neurons)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    try:
        model = model_entrypoint(args.model)(**model_arguments(args.model_arg, None))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        run = Run(model, args)
        if args.resume:
            run.resume(args.resume)
        if not run.train():
            print(f"stopped after epoch {run.epoch} of {run.epochs}; go on with --resume {args.state}")
            return
        card = write_weights(run, args)
    except sa.SpikeattnError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{args.out.name}: {args.out.stat().st_size:,} bytes")
    right, n = card["test_correct"], card["test_images"]
    print(f"test accuracy {card['test_accuracy']} ({right}/{n}), Wilson 95 % {card['test_accuracy_wilson_95']}")


if __name__ == "__main__":
    main()
