"""`python -m benchmarks peers [NAME ...]`: times molgen and its peers alternately, on the same tasks."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import provenance
from benchmarks.peers.timing import CLOCKS, Contest
from molgen.io.files import atomic

RESULTS = Path(__file__).parent.parent / "results" / "peers.json"

_EXTRA = "pip install -c constraints-cpu.txt -e '.[bench]'"
PEERS: Mapping[str, str] = {
    "diffusers": _EXTRA,
    "transformers": _EXTRA,
    "zuko": _EXTRA,
    "normflows": _EXTRA,
    "pythae": _EXTRA,
    # What it asks for brings torchvision; what this needs of that is in the extra.
    "torchcfm": f"{_EXTRA} && pip install --no-deps torchcfm",
    "posebusters": _EXTRA,
    "fcd_torch": _EXTRA,
}
"""The peers, modules of this folder by the names of their packages, and how each is installed."""


def main(argv: list[str]) -> int:
    """Times the named peers, or all without a result; writes benchmarks/results/peers.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"anew: {', '.join(PEERS)}")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each, in turn")
    parser.add_argument("--threads", type=int, default=1, help="of both")
    parser.add_argument("--clock", choices=CLOCKS, help="by default cpu on one thread, else wall")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(PEERS):
        parser.error(f"unknown peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}, expected 1 or more")

    import torch

    torch.set_num_threads(args.threads)
    clock = args.clock or ("cpu" if args.threads == 1 else "wall")
    found = _read()
    done = [name for name, peer in found.items() if not any("error" in task for task in peer["tasks"])]
    for name in args.names or [name for name in PEERS if name not in done]:
        if (result := _measured(name, args.repeats, clock, args.threads)) is not None:
            _write(_read() | {name: result})  # another run may have written meanwhile
    return 0


def _read() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text())["peers"]) if RESULTS.is_file() else {}


def _write(found: Mapping[str, Any]) -> None:
    ordered = {name: found[name] for name in PEERS if name in found}
    with atomic(RESULTS) as temporary:
        temporary.write_text(json.dumps({"kind": "peers", "peers": ordered}, indent=1) + "\n")


def _measured(name: str, repeats: int, clock: str, threads: int) -> dict[str, Any] | None:
    """The results of one peer; None, and a message, if it is not installed."""
    try:
        module = importlib.import_module(f"benchmarks.peers.{name}")
        release = version(name)
    except (ImportError, PackageNotFoundError) as error:
        print(f"{name}: not measured ({error}); install it by: {PEERS[name]}", file=sys.stderr)
        return None
    return {
        "version": release,
        "tasks": run(module.contests(), repeats, clock),
        "clock": clock,
        "threads": threads,
        **provenance(),
    }


def run(contests: Iterable[Contest], repeats: int, clock: str) -> list[dict[str, Any]]:
    """The results of contests; a failed one is a row with its error."""
    rows = []
    try:
        for contest in contests:
            try:
                rows.append(contest.result(repeats, CLOCKS[clock]))
            except Exception as error:  # the others go on
                rows.append(_failure(contest.task, contest.inputs, error))
            print(_told(rows[-1]), file=sys.stderr, flush=True)
    except Exception as error:
        rows.append(_failure("setting up", "-", error))
        print(_told(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _failure(task: str, inputs: str, error: Exception) -> dict[str, Any]:
    return {"task": task, "inputs": inputs, "error": " ".join(f"{type(error).__name__}: {error}".split())}


def _told(row: Mapping[str, Any]) -> str:
    what = f"{row['task']}, {row['inputs']}: "
    if "error" in row:
        return what + str(row["error"])
    spread = f"{row['ratio_least']:.2f} to {row['ratio_most']:.2f}"
    return f"{what}{row['ratio']:.2f} times as fast as the peer ({spread})"


# ---------------------------------------------------------------------- the table


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The figures of all peers as a Markdown table; nothing if there are none."""
    rows, notes = [], set()
    for result in results:
        for name, peer in result["peers"].items():
            rows += [_row(f"{name} {peer['version']}", task) for task in peer["tasks"]]
            clock = "CPU seconds" if peer["clock"] == "cpu" else "seconds"
            notes.add(f"{clock} of {peer['threads']} threads, {peer['machine']}, {peer['date']}")
    if not rows:
        return ""
    head = [
        "",
        "",
        "## Peers",
        "",
        "molgen and a peer on the same task, timed alternately; above 1 molgen is faster. The ratio is the",
        "median of the repeats, with the smallest and the largest in brackets.",
        "",
        "| peer | task | inputs | parameters, molgen and peer | a second, molgen | a second, peer | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    foot = f"Measured in {'; '.join(sorted(notes))} (`python -m benchmarks peers`)."
    return "\n".join([*head, *rows, "", foot])


def _row(peer: str, task: Mapping[str, Any]) -> str:
    if "error" in task:
        return f"| {peer} | {task['task']} | {task['inputs']} | - | - | - | failed: {task['error']} |"
    sizes = "-" if task["parameters"] is None else " and ".join(f"{n:,}" for n in task["parameters"])
    rates = [f"{task['amount'] / task[key]:.4g} {task['unit']}" for key in ("seconds", "peer_seconds")]
    ratio = f"{task['ratio']:.2f} ({task['ratio_least']:.2f} to {task['ratio_most']:.2f})"
    return f"| {peer} | {task['task']} | {task['inputs']} | {sizes} | {rates[0]} | {rates[1]} | {ratio} |"
