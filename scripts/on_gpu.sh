#!/usr/bin/env bash
# What still waits for a CUDA device, in the order of what it tells per minute; each step names what it answers.
#
#   scripts/on_gpu.sh OUT DATA [THEIRS] [STEP ...]
#
# OUT takes logs and results, DATA holds imagenet_sample and cifar10_jpg, THEIRS is a checkout of
# github.com/ncchung/AttentionRegularization ("" for none). Without STEP all of them run, about an hour on an
# H100; a step that fails does not stop the next. PYTHON chooses the interpreter.
set -u
OUT=${1:?usage: scripts/on_gpu.sh OUT DATA [THEIRS] [STEP ...]}
DATA=${2:?the folder with imagenet_sample and cifar10_jpg}
THEIRS=${3:-}
shift $(($# < 3 ? $# : 3))
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import torch; torch.cuda.is_available() or exit("error: torch sees no CUDA device")' || exit
mkdir -p "$OUT"
OUT=$(realpath "$OUT") DATA=$(realpath "$DATA") THEIRS=${THEIRS:+$(realpath "$THEIRS")}
cd "$(dirname "$0")/.."
PHOTOS=$DATA/imagenet_sample
SDT="--model sdt_8_512 --data imagenet:$PHOTOS --limit 256 --batch-size 64 --device cuda --calibrate"

bench() { "$PYTHON" scripts/benchmark.py "$@" --out "$OUT"; }

tests() { "$PYTHON" -m pytest -q -m gpu; }                                   # the kernels, the draws, CPU = CUDA
attend() { bench attend --device cuda --images 4 --rounds 3 ${THEIRS:+--theirs "$THEIRS"}; }       # bar: 50x
gpu() { bench gpu --photos "$PHOTOS" --batches 64,128; }                     # bar: recorded / not <= 1.05
parity() { bench parity-cuda; }                                              # 0 different counts
memory() { bench memory --device cuda --images 128 --batch-size 32 --rounds 1; }        # bar: recorded / not <= 1.05
precision() { bench precision --device cuda --images 16 --photos "$PHOTOS"; }
verify() {  # a run on CUDA, checked again; on all GPUs the same
  rm -rf "$OUT/run" "$OUT/ranks"
  "$PYTHON" -m spikeattn profile $SDT --out "$OUT/run" && "$PYTHON" -m spikeattn verify "$OUT/run" || return 1
  local gpus
  gpus=$(nvidia-smi -L | wc -l)
  "$PYTHON" -m torch.distributed.run --nproc-per-node "$gpus" -m spikeattn profile $SDT --out "$OUT/ranks" &&
    cmp "$OUT/run/counts.parquet" "$OUT/ranks/counts.parquet"
}
svda() { "$PYTHON" scripts/train_svda_cifar10.py --data "$DATA/cifar10_jpg" --seconds 400 --out "$OUT/svda"; }
cifar() {                                                                    # towards 93 %: about 36 minutes
  "$PYTHON" scripts/train.py --model sdt_2_256 --data "cifar10:$DATA/cifar10_jpg" --device cuda --precision bf16 \
    --batch-size 256 --warmup-epochs 5 --shift 4 --auto-augment rand-m9-n1-mstd0.4-inc1 --reprob 0.1 --mixup 0.2 \
    --cutmix 1 --mixup-prob 0.5 --lr 1.5e-3 --neurons triton --epochs 300 --plain-epochs 30 --test-every 10 \
    --workers 13 --half --out "$OUT/sdt_2_256.safetensors"
}

failed=0
for step in ${@:-tests attend gpu parity memory precision verify svda cifar}; do
  start=$SECONDS
  if "$step" >"$OUT/$step.log" 2>&1; then state=done; else state=FAILED failed=1; fi
  echo "$step: $state after $((SECONDS - start)) s, $OUT/$step.log"
done
exit $failed
