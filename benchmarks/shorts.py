"""Short measurements for the claims, each in a separate process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cells import CELLS, Cell
from benchmarks.child import Say, memory
from benchmarks.measure import draw, reference

EDGES = (5, 10, 20, 40)
"""Upper ends of the distances, in characters, at which closings are counted."""


def stepping(name: str, steps: Sequence[int], n: int, key: str, say: Say) -> None:
    """Speed and quality of a cell's weights at several numbers of steps.

    Arguments:
        name: of the cell.
        steps: of sampling; 0 is the default of the model.
        n: samples at each.
        key: the score; `floor/KEY` is subtracted if it is a distance.
    """
    import molgen

    cell, found = CELLS[name], []
    model = molgen.load(cell.weights)
    for count in steps:
        say(f"{count or 'default'} steps")
        samples, drawn = draw(model, n, 1, {**cell.sample, **({"steps": count} if count else {})})
        scores = model.modality.evaluate(samples, reference=reference(cell), **cell.evaluate)
        found.append(
            {
                "steps": drawn["options"]["steps"],
                "samples_per_second": drawn["samples_per_second"],
                "score": scores.get(key),
                "floor": scores.get(f"floor/{key}"),
            }
        )
    say("done", key=key, n=n, runs=found)


def built(cell: Cell) -> dict[str, Any]:
    """The options of the timed model: a consistency model has the network of its teacher."""
    if not cell.teacher:
        return dict(cell.model)
    network = ("view", "trunk", "trunk_options")
    return {k: v for k, v in CELLS[cell.teacher].model.items() if k in network} | {"pretraining": 0.0}


def step_cost(name: str, batch: int, steps: int, say: Say) -> None:
    """Seconds and memory of one training step of a cell's model from scratch.

    A consistency model has the network of its teacher, and only its own steps are measured.

    Arguments:
        name: of the cell.
        batch: samples a step.
        steps: two times as many are timed, by the difference of a short and a long run.
    """
    import molgen
    from molgen.core.registry import get_modality

    cell = CELLS[name]
    family: Any = molgen.list_families()[cell.family]
    model = family(type(get_modality(cell.modality))(**cell.options), **built(cell))
    records = model.modality.datasets[cell.data].load("train")[: 4 * batch * steps]
    before, spent = memory(), []
    for count in (2, steps, 3 * steps):  # the first is a warm-up; constant costs cancel
        say(f"{count} steps")
        begun = time.perf_counter()
        model.fit(records, validation=records[:batch], max_steps=count, batch_size=batch, seed=1)
        spent.append(time.perf_counter() - begun)
    say(
        "done",
        batch=batch,
        seconds_per_step=(spent[2] - spent[1]) / (2 * steps),
        memory=round(memory() - before),
        parameters=model.num_parameters,
    )


def reach(name: str, n: int, say: Say) -> None:
    """How well brackets and rings that a cell's strings open are closed, by distance.

    Arguments:
        name: of the cell; ``"data"`` for the test strings of QM9.
        n: strings.
    """
    import molgen
    from molgen.core.registry import get_modality

    if name == "data":
        strings = get_modality("smiles").datasets["qm9"].load("test")[:n]
    else:
        cell = CELLS[name]
        strings = molgen.load(cell.weights).sample(n, seed=1, **cell.sample)
    say("done", n=n, bins=closings(strings))


def closings(strings: Iterable[str]) -> list[dict[str, Any]]:
    """Openings in strings by the distance at which they are closed, or else to the string's end.

    An opening that is never closed counts at all distances up to the end of the string: the share closed at a
    distance is that of the openings which were closed there among those and the ones left open.

    Example:
        >>> [(b["closed"], b["open"]) for b in closings(["C1CC1", "C(C", "C1CCCCCC1"])][:2]
        [(1, 1), (1, 0)]
    """
    closed, left = [0] * (len(EDGES) + 1), [0] * (len(EDGES) + 1)
    for string in strings:
        waiting: dict[str, list[int]] = {}
        for i, c in enumerate(string):
            kind = "(" if c in "()" else "[" if c in "[]" else c if c.isdigit() else ""
            places = waiting.setdefault(kind, [])
            # Digits within square brackets count atoms and charges; they open no ring.
            if not kind or (c.isdigit() and waiting.get("[")):
                continue
            if c in "([" or (c.isdigit() and not places):
                places.append(i)
            elif places:
                closed[_bin(i - places.pop())] += 1
        for places in waiting.values():
            for i in places:
                for k in range(_bin(len(string) - 1 - i) + 1):
                    left[k] += 1
    tops = [*map(str, EDGES), "more"]
    return [{"to": t, "closed": a, "open": b} for t, a, b in zip(tops, closed, left, strict=True)]


def _bin(distance: int) -> int:
    return sum(distance > edge for edge in EDGES)


def fine_tuning(labels: Sequence[int], budget: str, say: Say) -> None:
    """Accuracy on MNIST of a pretrained Boltzmann machine's classifier and of one from scratch.

    Arguments:
        labels: number of labelled digits, equally many of each class; training and validation images.
        budget: of the machine's training, without labels.
    """
    import numpy as np

    from examples.boltzmann_classifier import compare
    from molgen.core.records import Records
    from molgen.core.registry import get_modality
    from molgen.models.energy import BoltzmannMachine

    source = get_modality("image").datasets["mnist"]
    parts, test = [source.load("train"), source.load("valid")], source.load("test")
    known = np.concatenate([part.labels["digit"] for part in parts])
    records = Records([x for part in parts for x in part], {"digit": known}, "mnist/train+valid")
    say("pretraining")
    machine = BoltzmannMachine("image", view="binary", hidden=CELLS["energy-image-dbm"].model["hidden"])
    machine.fit(records, max_time=budget, batch_size=100, seed=1)
    found = []
    for count in labels:
        say(f"{count} labels")
        rank = np.zeros(len(known), np.int64)
        for digit in range(10):
            own = np.flatnonzero(known == digit)
            rank[own] = np.arange(len(own))
        few = records[np.sort(np.argsort(rank, kind="stable")[:count])]
        steps = max(500, min(10 * count // 64, 6000))
        ours, plain = compare(machine, few, test, steps, seed=1)
        found.append({"labels": len(few), "steps": steps, "pretrained": ours, "scratch": plain})
    say("done", budget=budget, runs=found, training=machine.history)


def timed(work: Any, *args: Any) -> None:
    """Runs a measurement and adds its time."""
    begun, say = time.perf_counter(), args[-1]
    work(*args)
    say("timed", seconds=round(time.perf_counter() - begun, 1))
