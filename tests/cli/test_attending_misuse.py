"""`spikeattn attend` used wrongly: one line that says what to do, and no file."""

from __future__ import annotations

import pytest

from .attending import QUICK, files


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "sdt_digit"], 1, "unknown model 'sdt_digit': did you mean 'sdt_digits'"),
        (["--model", "vit_tiny_patch16_244"], 1, "did you mean 'vit_tiny_patch16_224'"),
        (["--against", "vit_smal_patch16_224"], 1, "did you mean 'vit_small_patch16_224'"),
        (["--null", "norml"], 1, "unknown null 'norml': did you mean 'normal'"),
        (["--statistic", "V_hat_S"], 1, "unknown statistic of sdt_digits 'V_hat_S': did you mean 'Vhat_S'"),
        (["--estimator", "plusone"], 1, "unknown estimator 'plusone': did you mean 'plus-one'"),
        (["--method", "ldfr"], 1, "unknown method 'ldfr': did you mean 'lfdr'"),
        (["--ties", "rnd"], 1, "unknown ties 'rnd'"),
        (["--replicates", 0], 2, "--replicates 0: give 1 or more"),
        (["--layer", "last"], 2, "--layer 'last': give the number of a block, or all"),
        (["--layer", 7], 1, "layer 7: the model has blocks 0 to 1"),
        (["--threshold", 2], 2, "--threshold 2.0: give a number from 0 to 1"),
        (["--method", "soft", "--threshold", 0.1], 2, "--threshold: method soft has none"),
        (["--seed", -1], 2, "--seed -1: give 0 or more"),
        (["--images", "cat.png"], 2, "give either --images PATH... or --data SPEC, not both"),
        (["--against-pretrained"], 2, "need --against NAME"),
        (["--weights", "ema"], 2, "give --checkpoint FILE too"),
        (["--limit", 0], 2, "--limit 0: give 1 or more"),
        (["--pictures", -1], 2, "--pictures -1: give 0 or more"),
        (["--data", "digts"], 1, "unknown data 'digts': did you mean 'digits'"),
        (["--run", "nowhere"], 1, "nowhere"),
        (["--costs", "horowitz"], 1, "unknown cost table 'horowitz': did you mean"),
        (["--convention", "exac"], 1, "unknown convention 'exac': did you mean 'exact'"),
        (["--against", "sdt_2_256_gesture"], 1, "a digit is 1x16x16 but the model takes 2x128x128"),
        (["--against", "resnet18"], 1, "a digit is 1x16x16 but the model takes 3x224x224"),
        (["--null", "exact", "--against", "vit_digits"], 1, "null exact, sdt_digits beside vit_digits: only \"where\""),
        (["--null", "events"], 1, "digits/11: null=\"events\" takes frames [T, C, H, W] of event counts"),
        (["--estimator", "per-token", "--method", "q"], 1, "no per-token q from 12 replicates of 64 tokens"),
        (["--calibrate"], 2, "--calibrate would overwrite trained batch norms"),
        (["--checkpoint", "notes.txt"], 1, "not both"),
        (["--out", "notes.txt"], 1, "--out notes.txt: "),
        (["--out", "full"], 1, "--out full: holds other files (a.txt)"),
    ],
)  # fmt: skip
def test_wrong_use_says_what_to_do(spikeattn, tmp_path, options, code, message) -> None:
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("mine")
    done = spikeattn(*QUICK, *options)
    assert (done.code, message in done.error) == (code, True), done.err
    assert done.out == ""
    assert not (tmp_path / "out").exists()
    assert files(tmp_path) == {"notes.txt", "full/a.txt"}
