"""All families on one table, half of whose rows they see: ``python -m molgen_tabular.compare``."""

import argparse
import platform
import time

import numpy as np
import torch

import molgen
from molgen_tabular import Tabular

SMALL = {"width": 64, "depth": 2, "heads": 4}
OPTIONS = {"vae": {"temperature": 1.0}}  # it would give the median of every column, which is no row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="wine", help="a data set's name")
    parser.add_argument("--steps", type=int, default=300, help="of training, for each family")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    source = Tabular().datasets[asked.data]
    rows = [row for split in source.splits for row in source.load(split)]
    table = Tabular().fit_to(rows)  # so that no half has a value that the other does not know
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{asked.data}, {asked.steps} steps, seed {asked.seed}, {machine}, {time.strftime('%Y-%m-%d')}\n")
    print("| family | marginal, mean | worst column | two-sample AUROC |\n|---|---|---|---|")
    floor = {}
    for name, family in molgen.list_families().items():
        model = family(table, trunk_options=SMALL, **OPTIONS.get(name, {}))
        model.fit(rows[1::2], max_steps=asked.steps, lr=2e-3, seed=asked.seed, progress=False)
        scores = table.evaluate(model.sample(len(rows[1::2]), seed=asked.seed), rows)
        floor = {key[6:]: value for key, value in scores.items() if key.startswith("floor/")}
        print(f"| {name} | {_cells(scores)} |", flush=True)
    print(f"| the other half of the data | {_cells(floor)} |")


def _cells(scores):
    gaps = {key[9:]: value for key, value in scores.items() if key.startswith("marginal/")}
    worst = max(gaps, key=gaps.__getitem__)
    mean = np.mean(list(gaps.values()))
    return f"{mean:.3f} | {gaps[worst]:.2f} {worst} | {scores['two_sample']:.2f}"


if __name__ == "__main__":
    main()
