"""Models on the Hugging Face Hub: a safetensors file and a model card; what is fetched runs no code."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from molgen.core.errors import CheckpointError, ConfigError

FILE, CARD = "model.safetensors", "README.md"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


class Saved(Protocol):
    """A model that can be saved."""

    def save(self, path: str | Path) -> None:
        """Writes the model to a file."""

    def header(self) -> dict[str, Any]:
        """What the checkpoint's header holds."""


def is_repo(name: str) -> bool:
    """Whether a text can be a repository, ``"user/repo"`` or ``"user/repo@revision"``, and is no path here.

    Example:
        >>> is_repo("ada/digits"), is_repo("ada/digits@v1"), is_repo("ada/digits.safetensors")
        (True, True, False)
    """
    if not _REPO.fullmatch(name) or name.endswith(".safetensors"):
        return False
    return not Path(name).exists() and not Path(name).parent.is_dir()


def fetch(name: str) -> Path:
    """The checkpoint of a repository, from the Hub or from what was fetched before.

    No other file of the repository is looked at.

    Arguments:
        name: ``"user/repo"``, or ``"user/repo@revision"`` with a branch, a tag or a commit.

    Errors: `ConfigError` without the package `huggingface_hub`; `CheckpointError` if there is no such
        repository or file, or no network and nothing fetched before.
    """
    repo, _, revision = name.partition("@")
    api = _api(None)
    try:
        return Path(api.hf_hub_download(repo, FILE, revision=revision or None))
    except Exception as error:  # of the package, or of one of several HTTP libraries beneath it
        raise CheckpointError(f"{name}: cannot be fetched from the Hub ({_why(error)})") from error


def push(model: Saved, repo: str, token: str | None, private: bool, message: str | None) -> str:
    """Writes checkpoint and model card to a repository in one commit; its address.

    Errors: as `Stored.push_to_hub`.
    """
    if not _REPO.fullmatch(repo) or "@" in repo:
        raise ConfigError(f"repo is {repo!r}, expected user/repo")
    api = _api(token)
    from huggingface_hub import CommitOperationAdd

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        model.save(path)
        files = {FILE: str(path), CARD: card(model.header(), repo).encode()}
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=at) for name, at in files.items()]
        try:
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.create_commit(repo, operations, commit_message=message or "Weights and card by molgen")
        except Exception as error:  # as above
            raise CheckpointError(
                f"{repo}: cannot be written to the Hub ({_why(error)}); log in by `hf auth login`, or give a "
                "token that may write there"
            ) from error
    return str(address)


def card(header: Mapping[str, Any], repo: str) -> str:
    """The model card of a checkpoint's header: what it is, how to use it, how it was trained and scored.

    Example:
        >>> header = {"family": "vae", "modality": "smiles", "view": "characters", "num_parameters": 1200}
        >>> header["history"] = {"seconds": 90.0, "steps": 10, "samples": 80, "runs": []}
        >>> header["metrics"] = {"valid": 0.5}
        >>> print(card(header, "ada/strings").splitlines()[7])
        # vae of smiles
    """
    family, modality, training = header["family"], header["modality"], header["history"]
    conditions = ", ".join(str(c.get("name")) for c in header.get("conditions", ()))
    runs = [
        f"- {run.get('data', '?')}: {run['steps']:,} steps of {run.get('batch_size', '?')} samples, "
        f"{run['seconds'] / 60:.1f} minutes, seed {run.get('seed', '?')}, {run.get('date', '?')}"
        for run in training["runs"]
    ]
    scores = [
        f"| {_cell(name)} | {value:.4g} |"
        for name, value in sorted(header["metrics"].items())
        if value is not None
    ]
    options = {
        name: value for name, value in header.get("options", {}).items() if not isinstance(value, Mapping)
    }
    lines = [
        "---",
        "library_name: molgen",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in ("molgen", family, modality)),
        "---",
        f"# {family} of {modality}",
        "",
        f"A generative model of molgen: family `{family}`, modality `{modality}`, view `{header['view']}`, "
        f"{header['num_parameters']:,} parameters"
        + (f", conditioned on {conditions}." if conditions else "."),
        "",
        "```python",
        "import molgen",
        "",
        f"model = molgen.load({json.dumps(repo)})",
        "samples = model.sample(10, seed=0)",
        "```",
        "",
        "Loading reads one safetensors file and runs no code from here.",
        "",
        "## Training",
        "",
        f"{training['steps']:,} steps, {training['samples']:,} samples, "
        f"{training['seconds'] / 60:.1f} minutes.",
        "",
        *runs,
        "",
        "Options: " + (", ".join(f"`{name}={value}`" for name, value in options.items()) or "none") + ".",
        *(["", "## Scores", "", "| score | value |", "|---|---|", *scores] if scores else []),
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _api(token: str | None) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ConfigError("the Hub needs the package huggingface_hub: pip install -e '.[hub]'") from None
    return HfApi(token=token, library_name="molgen")


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
