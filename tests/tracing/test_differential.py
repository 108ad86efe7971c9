"""Random networks (`random_networks`): every count of every image equals that of an interpreter of the same recipe.

The interpreter knows by construction what each tensor is, runs one image at a time, and shares no code with spikeattn.
Every network is run by `sa.profile` and in a loop of the user's own under `sa.record`, in training mode or not.
A failure prints the seeds and their recipes; one of them alone:

    python -c "from tests.tracing.test_differential import explain; explain(17)"
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import functional

import spikeattn as sa
from tests.tracing.random_networks import AMOUNTS, PRODUCTS, Cost, RandomNet, Recipe, Step, interpret, make

CHUNKS, SEEDS = 10, 30


def costs_of(recipe: Recipe) -> list[Cost]:
    """What every image of a recipe costs, in the order of the run; the network gives the interpreter's logits."""
    costs = [interpret(recipe, image) for image in torch.cat(recipe.images())]
    with torch.no_grad(), quiet():
        logits = torch.cat([RandomNet(recipe).eval()(batch) for batch in recipe.images()])
    wanted = torch.stack([cost.logits for cost in costs]).float()
    assert torch.allclose(logits, wanted, atol=1e-4), f"the recipe is run wrongly: {recipe}\n{logits}\n{wanted}"
    return costs


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's advice about speed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
        yield


def recorded(recipe: Recipe, training: bool) -> sa.Profile:
    """The same network in a loop of the user's own."""
    model = RandomNet(recipe).train(training)
    with sa.record(model, **recipe.options()) as recording, torch.set_grad_enabled(training):
        for batch in recipe.images():
            functional.reset_net(model)
            model(batch)
    return recording.profile()


def differences(recipe: Recipe, expected: list[Cost], through: str = "profile") -> list[str]:
    """Where a profile of the recipe's network disagrees with what its images cost; empty where nowhere."""
    try:
        with quiet():
            if through == "profile":
                profile = sa.profile(RandomNet(recipe).eval(), recipe.images(), **recipe.options())
            else:
                profile = recorded(recipe, training=through == "record in training")
    except Exception as error:  # whatever it is, the other seeds are run too
        return [f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"]
    return compare(profile, recipe, expected)


def compare(profile: sa.Profile, recipe: Recipe, expected: list[Cost]) -> list[str]:
    """Where a profile disagrees with what the images cost."""
    found: list[str] = []

    def equal(what: str, given: object, wanted: object) -> None:
        if given != wanted:
            found.append(f"{what}: {given}, expected {wanted}")

    equal("time steps", profile.time_steps, recipe.T)
    equal("uncounted", [(u.name, u.op, u.reason) for u in profile.ledger.uncounted], [])
    images = range(len(expected))
    table = profile.operations(per_image=True)
    totals = table.groupby("image")[list(AMOUNTS)].sum()
    equal("images", sorted(totals.index), list(images))
    for amount in AMOUNTS:
        equal(amount, [int(totals[amount].get(i, 0)) for i in images], [cost.totals[amount] for cost in expected])
    names = table["synapse"].str.split("@").str[0]  # a layer that is called again has a row of its own
    for layer in recipe.modules:
        rows = table[names == layer].groupby("image")[["sops", "macs"]].sum()
        for amount in ("sops", "macs"):
            wanted = [getattr(cost, amount)[layer] for cost in expected]
            equal(f"{amount} of {layer}", [int(rows[amount].get(i, 0)) for i in images], wanted)
    first = recipe.first_neuron
    equal(f"spikes of {first}", profile.counts.column("nnz", first).tolist(), [cost.first for cost in expected])
    return found


def report(recipe: Recipe, wrong: list[str]) -> str:
    lines = "\n".join(f"  ! {line}" for line in wrong)
    call = f"from tests.tracing.test_differential import explain; explain({recipe.seed})"
    return f"\n{recipe}\n{lines}\n  alone: python -c '{call}'\n"


def explain(seed: int) -> None:
    """Print the recipe of a seed and where the counts disagree."""
    recipe = make(seed)
    for through in ("profile", "record", "record in training"):
        print(through, report(recipe, differences(recipe, costs_of(recipe), through) or ["no difference"]))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_networks(chunk: int) -> None:
    seeds = range(chunk * SEEDS, (chunk + 1) * SEEDS)
    failures = []
    for seed in seeds:
        recipe = make(seed)
        costs = costs_of(recipe)
        for through in ("profile", "record in training" if seed % 2 else "record"):
            if wrong := differences(recipe, costs, through):
                failures.append((seed, f"\n{through}:{report(recipe, wrong)}"))
    failed = sorted({seed for seed, _ in failures})
    assert not failures, f"{len(failed)} of {len(seeds)} networks, seeds {failed}:\n" + "".join(t for _, t in failures)


def test_the_networks_are_varied_and_fire() -> None:
    """What is to be covered occurs among the seeds, and so do operations of every kind."""
    seen: Counter[str] = Counter()
    for seed in range(CHUNKS * SEEDS):
        recipe = make(seed)
        steps: list[Step] = [*recipe.before, *recipe.body, *recipe.after]
        kinds = {"x": recipe.source} | {step.out.name: step.out.kind for step in steps}
        for step in steps:
            seen.update({step.op, f"{step.op} {step.how}", f"{step.op} [{step.layout}]"})
            seen.update(f"padding {v}" for k, v in step.args.get("options", {}).items() if k == "padding")
            if step.op in ("product", "pool"):
                seen[f"{step.op} of {kinds[step.ins[0]]}"] += 1
                seen["heads = T"] += step.args.get("heads") == recipe.T
            if step.layer in recipe.weights:
                seen[f"{kinds[step.ins[0].removeprefix('last ')]} at a weight"] += 1
        modules = recipe.modules.values()
        seen.update({recipe.mode, recipe.source, f"own [{recipe.own}]", *recipe.nodes.values()})
        seen.update({kind for kind, _ in modules})
        seen.update({f"option {key}" for _, options in modules for key in options})
        seen["T = B"] += recipe.T in recipe.batches
        seen["channels = B"] += any(w.shape[0] in recipe.batches for w in recipe.weights.values())
        layers = Counter(step.layer for step in steps if step.layer)
        seen["shared layer"] += any(n > 1 for layer, n in layers.items() if layer in recipe.weights)
        seen["shared neuron"] += any(n > 1 for layer, n in layers.items() if layer in recipe.nodes)
        cost = interpret(recipe, recipe.images()[0][0])
        seen.update({amount for amount, number in cost.totals.items() if number})
        seen[PRODUCTS] += cost.sops[PRODUCTS] > 0
    wanted = """m s still frames events if soft lif ilif signs own conv linear mix headwise product mask sum or pool
        add later repeat view Conv1d Conv2d ConvTranspose1d ConvTranspose2d Linear""".split()
    wanted += ["option stride", "option padding", "option dilation", "option groups", "option padding_mode",
               "option output_padding", "padding same", "T = B", "channels = B", "heads = T", "shared layer",
               "shared neuron", "product of binary", "product of integer", "product of ternary",
               "pool of binary", "pool of integer", "pool of ternary",
               "frames at a weight", "events at a weight", "still at a weight", "later difference", PRODUCTS, *AMOUNTS,
               *(f"linear {how}" for how in ("module", "F.linear", "@", "einsum", "module, tokens first")),
               *(f"product {how}" for how in ("@", "einsum", "bmm", "bmm, heads first", "heads first", "heads second")),
               *(f"neuron {how}" for how in ("images with channels", "channels first")),
               *(f"own [{layout}]" for layout in ("TB", "BT", "T*B", "B*T", "B")),
               *(f"conv [{layout}]" for layout in ("T*B", "B*T", "B")),
               *(f"product [{layout}]" for layout in ("TB", "BT", "T*B", "B*T", "B")),
               *(f"{kind} at a weight" for kind in ("real", "binary", "ternary", "integer"))]  # fmt: skip
    rare = {what: seen[what] for what in wanted if seen[what] < 2}
    assert not rare, f"hardly ever, or never, among the seeds: {rare}"


@pytest.mark.parametrize("seed", [0, 3])
def test_a_wrong_number_is_seen(seed: int) -> None:
    """One operation more of any kind, or one spike, in one image, is a difference."""
    recipe = make(seed)
    costs = costs_of(recipe)
    with quiet():
        profile = sa.profile(RandomNet(recipe).eval(), recipe.images(), **recipe.options())
    right = set(compare(profile, recipe, costs))
    *others, last = costs
    more = Counter({next(iter(recipe.weights)): 1})
    wrong = {
        "sops": replace(last, sops=last.sops + more),
        "macs": replace(last, macs=last.macs + more),
        "acs": replace(last, acs=last.acs + 1),
        "mask_ops": replace(last, masks=last.masks + 1),
        "spikes of": replace(last, first=[*last.first[:-1], last.first[-1] + 1]),
    }
    for what, cost in wrong.items():
        seen = set(compare(profile, recipe, [*others, cost])) - right
        assert any(line.startswith(what) for line in seen), what
    for what, changed in (("time steps", replace(recipe, T=recipe.T + 1)), ("images", recipe)):
        seen = set(compare(profile, changed, [*costs, last] if what == "images" else costs)) - right
        assert any(line.startswith(what) for line in seen), what
