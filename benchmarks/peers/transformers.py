"""transformers: strings drawn character by character, with a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import molgen
from benchmarks.peers.shared import size
from benchmarks.peers.timing import Contest

_LENGTH = 16


def contests() -> Iterator[Contest]:
    """Strings of one length in large and small batches, and strings as long as QM9's."""
    model: Any = molgen.load("autoregressive-smiles")
    modality = model.modality
    letters = modality.vocabulary
    trunk = model.trained.trunk
    config = GPT2Config(
        vocab_size=len(letters) + 1,
        n_positions=64,
        n_embd=trunk.width,
        n_layer=len(trunk.blocks),
        n_head=trunk.heads,
        bos_token_id=len(letters),
        eos_token_id=None,
        pad_token_id=0,
    )
    gpt = GPT2LMHeadModel(config).eval()
    sizes = (model.num_parameters, size(gpt))

    def write(count: int, length: int) -> list[str]:
        start = torch.full((count, 1), len(letters))
        codes = gpt.generate(
            start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0, max_new_tokens=length
        )
        return ["".join(letters[i] for i in row if i < len(letters)) for row in codes[:, 1:].tolist()]

    for batch in (256, 32):
        yield Contest(
            "cached sampling of strings",
            f"{batch} strings of {_LENGTH} characters at once",
            partial(model.complete, "C", n=batch, size=_LENGTH),
            partial(write, batch, _LENGTH),
            sizes,
            batch,
            "strings",
        )

    def write_all(lengths: Sequence[int], batch: int) -> list[str]:
        # A batch continues until its longest string ends.
        out = []
        for start in range(0, len(lengths), batch):
            own = lengths[start : start + batch]
            texts = write(len(own), max(own))
            out += [text[:n] for text, n in zip(texts, own, strict=True)]
        return out

    count = 1024
    lengths = modality.draw_sizes(0, range(count))
    yield Contest(
        "cached sampling of strings",
        f"{count} strings as long as QM9's, 256 at once; molgen puts like lengths together",
        lambda: model.sample(count, batch_size=256),
        lambda: write_all(lengths, 256),
        sizes,
        count,
        "strings",
    )
