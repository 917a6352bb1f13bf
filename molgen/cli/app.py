"""The command line: thin, quick to start, one clear line on a mistake."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molgen.cli.options import FamilyHelp, pair, parse_options, print_table
from molgen.core.errors import CheckpointError, ConfigError, MolgenError

if TYPE_CHECKING:
    from molgen.models.base import GenerativeModel

app = typer.Typer(
    name="molgen",
    help="Deep generative models of molecules, proteins and images.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Samples at a time.")]
SkipInvalid = Annotated[
    bool, typer.Option("--skip-invalid", help="Skip and count bad records of a file, instead of stopping.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: a GPU if there is one.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="One more option; repeatable.")
]
Weights = Annotated[str, typer.Argument(metavar="WEIGHTS", help="A checkpoint, or a shipped name.")]


@app.command("list")
def list_() -> None:
    """Families, modalities, data sets, shipped weights."""
    from molgen import api
    from molgen.core.registry import FAMILIES, MODALITIES, Table
    from molgen.io.data import data_folder

    families, modalities = Table(FAMILIES), Table(MODALITIES)
    for title, table in (("families", families), ("modalities", modalities)):
        rows = [[name, table.path(name), f"package {table.source(name)}"] for name in table]
        print_table(f"{title}:", rows)
    rows = []
    for name, header in api.list_weights().items():
        training = header.get("history", {})
        data = sorted({run.get("data", "?").split("/")[0] for run in training.get("runs", ())})
        labels = [c.get("name", "?") for c in header.get("conditions", ())]
        rows.append(
            [
                name,
                f"{header['num_parameters']:,} parameters",
                f"trained on {', '.join(data) or '?'} for {training.get('seconds', 0) / 60:,.0f} min",
                f"conditions: {', '.join(labels)}" if labels else "",
            ]
        )
    print_table("shipped weights:", rows)
    rows = [
        [d.name, d.modality, f"{d.records:,}", "here" if d.present else "not here", d.licence, d.source]
        for d in api.list_datasets()
    ]
    print_table(f"data sets (folder {data_folder()}, set by MOLGEN_DATA):", rows)
    for name, why in _broken(families) + _broken(modalities):
        typer.echo(f"molgen: {name} cannot be used: {why}", err=True)


@app.command(cls=FamilyHelp)
def fit(
    family: Annotated[str, typer.Argument(help="A family, e.g. diffusion.")],
    modality: Annotated[str, typer.Argument(help="A modality, e.g. graph.")],
    data: Annotated[str, typer.Option(help="A data set's name, or a path.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write.")],
    validation: Annotated[str | None, typer.Option(help="The same for validation.")] = None,
    max_time: Annotated[str | None, typer.Option(help="E.g. 90s, 10m, 1h or 00:30:00.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1)] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Seed = 0,
    trunk: Annotated[str | None, typer.Option(help="An alternative network of the modality.")] = None,
    view: Annotated[str | None, typer.Option(help="A view of the modality.")] = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A label to condition on; repeatable.")
    ] = None,
    option: Options = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations without a gain.")
    ] = None,
    skip_invalid: SkipInvalid = False,
    resume: Annotated[
        Path | None,
        typer.Option(help="A run that was cut off: goes on exactly; or a finished model: trains it further."),
    ] = None,
) -> None:
    """Train a model, or go on training one."""
    from molgen.core.registry import get_family
    from molgen.io.files import check_writable

    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: expected a name that ends in .safetensors")
    check_writable(out)
    kind = get_family(family)
    options = parse_options(option or [], kind)
    if max_time is not None:
        from molgen.train import parse_time

        parse_time(max_time)  # a mistake in it shall not wait for the data
    state = None
    if resume is not None and not (state := _state_of(resume)):
        from molgen import load

        model = load(resume)
        if (model.family, model.modality.name) != (family, modality):
            got = f"{model.family} {model.modality.name}"
            raise ConfigError(f"--resume {resume}: holds {got}, not {family} {modality}; name the same two")
    else:
        model = kind(modality, view=view, trunk=trunk, **options)
    folder = state.parent if state else _folder_of(out)
    try:
        model.fit(
            data,
            validation=validation,
            max_time=max_time,
            max_steps=max_steps,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            condition=condition or (),
            skip_invalid=skip_invalid,
            patience=patience,
            ckpt_path=state,
            root_dir=folder,
        )
    except (KeyboardInterrupt, SystemExit):  # Lightning answers an interrupt by leaving
        if (folder / "state.safetensors").is_file():
            typer.echo(f"molgen: the last training state is kept; go on with --resume {out}", err=True)
        raise KeyboardInterrupt from None
    model.save(out)
    run = model.history["runs"][-1]
    note = f"{run['steps']:,} steps in {run['seconds']:,.0f} s, validation loss {run['validation_loss']}"
    typer.echo(f"{out}: {model!r}, {note}; log and training state in {folder}", err=True)


@app.command()
def sample(
    weights: Weights,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file or folder to write.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 100,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, where the family has steps.")] = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label's value; repeatable.")
    ] = None,
    batch_size: BatchSize = None,
    valid_only: Annotated[bool, typer.Option("--valid-only", help="Draw on until n are valid.")] = False,
    precision: Annotated[str, typer.Option(help="fp32; bf16 is faster on some processors.")] = "fp32",
    option: Options = None,
    device: Device = "auto",
) -> None:
    """Draw samples to a file; invalid ones included, unless --valid-only."""
    import time

    from molgen.io.drawn import Drawn
    from molgen.io.files import check_writable
    from molgen.io.formats import format_of, write

    check_writable(out)
    model = _load(weights, device)
    format_of(model.modality, out, "write")
    options = parse_options(option or []) | ({} if steps is None else {"steps": steps})
    labels = dict(pair(text, "--condition") for text in condition or [])

    begun = time.monotonic()
    write(
        model.modality,
        out,
        Drawn(n, lambda: model.stream(n, seed, batch_size, labels, True, valid_only, precision, **options)),
    )
    seconds = time.monotonic() - begun
    typer.echo(f"{out}: {n:,} samples in {seconds:,.1f} s, {n / seconds:,.1f} a second", err=True)


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file, or a folder, of samples.")],
    modality: Annotated[str, typer.Option(help="What the file holds.")],
    reference: Annotated[str | None, typer.Option(help="A data set's name, or a path.")] = None,
    json: Annotated[Path | None, typer.Option(help="Writes the scores there as JSON.")] = None,
    skip_invalid: SkipInvalid = False,
    option: Options = None,
) -> None:
    """Score anybody's file; no model needed."""
    from molgen import api
    from molgen.io.files import check_writable

    if json is not None:
        check_writable(json)
    scores = api.evaluate(path, modality, reference, skip_invalid, **parse_options(option or []))
    for line in api.score_lines(scores):
        typer.echo(line)
    if json is not None:
        api.save_json(json, scores)


@app.command()
def score(
    weights: Weights,
    data: Annotated[str, typer.Argument(help="A file, or a data set's name (its test split).")],
    seed: Seed = 0,
    batch_size: BatchSize = None,
    skip_invalid: SkipInvalid = False,
    option: Options = None,
    device: Device = "auto",
) -> None:
    """Log-likelihoods in nats, one line each."""
    from molgen.io.resolve import resolve

    model = _load(weights, device)
    records = resolve(model.modality, data, "test", skip_invalid)
    values = model.log_prob(records, seed=seed, batch_size=batch_size, **parse_options(option or []))
    typer.echo(f"log p in nats, {model.likelihood}, log p(size) included, {len(records):,} records", err=True)
    for value in values.tolist():
        typer.echo(f"{value:.4f}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A modality or a family, molgen's own or a plugin's.")],
    data: Annotated[
        str | None, typer.Option(help="At least 10 records of the modality; by default its embedded data.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Check the modality with this family only; repeatable.")
    ] = None,
) -> None:
    """Whether a modality or a family keeps what plugins promise; the fix for whatever it does not."""
    import time

    from molgen.core.registry import FAMILIES, MODALITIES, Table, get_family

    known = {*Table(FAMILIES), *Table(MODALITIES)}
    if name not in known:
        raise ConfigError.unknown("modality or family", name, known)
    from molgen.testing import Complaint, check_modality, check_model

    begun, counts = time.monotonic(), {"passed": 0, "failed": 0}

    def told(what: str, complaint: str, seconds: float) -> None:
        counts["failed" if complaint else "passed"] += 1
        if complaint:
            typer.echo(f"FAILED {what}: {complaint}")
        elif sys.stdout.isatty():
            typer.echo(f"passed {what} ({seconds:.1f} s)")

    try:
        if name in Table(MODALITIES):
            check_modality(name, data, family, told)
        else:
            check_model(get_family(name), told)
    except Complaint:
        total = sum(counts.values())
        raise ConfigError(f"{name}: {counts['failed']} of {total} checks failed, see above") from None
    typer.echo(f"{name}: all {counts['passed']} checks passed in {time.monotonic() - begun:.0f} s")


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="What users will type, e.g. waves.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The new folder; molgen-NAME here.")] = None,
) -> None:
    """Write a small package with a modality of its own, which installs and passes its tests at once."""
    from molgen.scaffold import new_plugin as written

    folder = written(name, out)
    typer.echo(f"{folder}: pip install -e {folder} && molgen check {name}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("demo"),
) -> None:
    """Every modality from shipped weights: files, pictures, scores, in minutes."""
    from molgen.demo import run

    run(out)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command: 0, or 2 and one line on the error stream if the user can mend it.

    Example:
        >>> main(["fit", "difusion", "graph", "--data", "qm9", "--out", "a.safetensors"])
        2
    """
    try:
        status = app(arguments, prog_name="molgen", standalone_mode=False)
        if status == 130:  # typer's way to tell of an interrupt
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except MolgenError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain("stopped", 130)
    except BrokenPipeError:  # the reader of our output has gone, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own complaints about arguments
            return _complain(_usage(error))
        if type(error).__name__ == "Abort":
            return _complain("stopped", 130)
        if os.environ.get("MOLGEN_DEBUG"):
            raise
        fault = f"{type(error).__name__}: {error}"
        return _complain(f"a fault of molgen's, not yours: {fault} (MOLGEN_DEBUG=1 shows where)", 1)


# ---------------------------------------------------------------------- parts


def _load(weights: str, device: str) -> GenerativeModel:
    from molgen import load

    model = load(weights)
    if device == "cpu":
        return model
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"--device {device}: {why}; choices: auto, cpu, cuda, mps") from None


def _folder_of(out: Path) -> Path:
    """Where a run's log and training state lie: beside what it writes."""
    return out.with_suffix(".training")


def _state_of(path: Path) -> Path | None:
    """The training state that a path to resume from means; None if it is a finished model."""
    from molgen.io.header import read_header

    state = _folder_of(path) / "state.safetensors"
    if path.is_file():
        if read_header(path).get("content") == "training state":
            return path
        # A state younger than the model belongs to a run that was cut off after it.
        cut_off = state.is_file() and state.stat().st_mtime > path.stat().st_mtime
        return state if cut_off else None
    if not state.is_file():
        raise CheckpointError(f"--resume {path}: neither this file nor a training state {state} is there")
    return state


def _broken(table: Any) -> list[tuple[str, str]]:
    """The names of a table that cannot be used, and why."""
    out = []
    for name in table:
        try:
            table[name]
        except MolgenError as error:
            out.append((name, str(error)))
    return out


def _usage(error: Any) -> str:
    """A complaint about arguments as one line, with the nearest command."""
    text: str = error.format_message()
    if text.startswith("No such command"):
        got = text.split("'")[1] if "'" in text else ""
        return str(ConfigError.unknown("command", got, typer.main.get_command(app).commands))  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "molgen"
    return f"{text} (see: {path} --help)"


def _complain(message: str, status: int = 2) -> int:
    print("molgen: " + " ".join(message.split()), file=sys.stderr)
    return status
