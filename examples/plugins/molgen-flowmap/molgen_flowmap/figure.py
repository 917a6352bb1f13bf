"""Trains a flow map on the small molecules of gdb6, prints valid x unique by steps, and draws samples.

python -m molgen_flowmap.figure --max-steps 800 --seed 0 --out images/gdb6.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from molgen.core.registry import FAMILIES, lent
from molgen_flowmap import FlowMapModel

NETWORK = {"width": 48, "pair_width": 16, "depth": 3, "heads": 4}


def main() -> None:
    """Prints a row of Markdown for each number of steps, and draws what one step and four give."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--max-steps", type=int, default=800, help="of training")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300, help="samples that are scored")
    parser.add_argument("--weights", type=Path, default=Path("flowmap-graph.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("gdb6.png"))
    options = parser.parse_args()
    with lent(FAMILIES, FlowMapModel):
        begun = time.process_time()
        model = FlowMapModel("graph", finest=16, trunk_options=NETWORK)
        budget = {"max_steps": options.max_steps, "batch_size": options.batch_size, "lr": 2e-3}
        model.fit("gdb6", seed=options.seed, progress=False, **budget)
        seconds = time.process_time() - begun
        print(f"trained for {seconds:.0f} s of one core, {model.num_parameters:,} parameters")
        model.save(options.weights)
        print("| steps | valid | valid x unique | s for 100 |\n|---|---|---|---|", flush=True)
        shown = []
        for steps in (1, 2, 4, 16, 64):
            begun = time.process_time()
            samples = model.sample(options.count, seed=options.seed, steps=steps)
            seconds = (time.process_time() - begun) / options.count * 100
            scores = model.evaluate(samples)
            both = scores["valid_x_unique"]
            print(f"| {steps} | {scores['valid']:.2f} | {both:.2f} | {seconds:.1f} |", flush=True)
            shown += samples[:8] if steps in (1, 4) else []
        model.modality.plot(shown, options.out)


if __name__ == "__main__":
    main()
