"""A hook of mkdocs: a model card for each shipped model, written from the header of its weights."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

from molgen.io.hub import card
from molgen.models.loading import list_weights


def on_files(files: Files, config: Any) -> Files:
    """Adds ``models/NAME.md`` for each shipped model and ``models/index.md``, a table of them."""
    headers = list_weights()
    for name, header in headers.items():
        files.append(File.generated(config, f"models/{name}.md", content=card(header, name)))
    files.append(File.generated(config, "models/index.md", content=index(headers)))
    return files


def index(headers: dict[str, dict[str, Any]]) -> str:
    """The page that lists the cards.

    Example:
        >>> header = {"modality": "image", "view": "pixels", "num_parameters": 1200}
        >>> header |= {"history": {"seconds": 90.0}}
        >>> print(index({"vae-image": header}).splitlines()[-1])
        | [`vae-image`](vae-image.md) | image | pixels | 1,200 | 2 |
    """
    rows = [
        f"| [`{name}`]({name}.md) | {header['modality']} | {header['view']} | {header['num_parameters']:,} "
        f"| {header['history']['seconds'] / 60:.0f} |"
        for name, header in headers.items()
    ]
    lines = [
        "# Model cards",
        "",
        "Each card is written from the header of the weights: the runs that trained them, the saved options,",
        "and the scores with their floors. [How the shipped models were trained](../training.md) adds what",
        "headers do not contain.",
        "",
        "| model | kind of data | view | parameters | minutes of training |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"
