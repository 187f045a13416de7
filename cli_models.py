"""``fourcorners models``: what models are here, get one, look into one, measure, delete.

Tables and JSON go to standard output, all else to standard error. Exit status: 0 done, 1 a file that can't be got or
used, 2 a name that can't be understood, 4 done but for some of several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fourcorners.models.hub_file import HubFile
    from fourcorners.models.shelf import ModelFile

WIDTH = 160
"""Of tables that go to no terminal."""
SHOWN_CHARS = 100
"""Of a text in the metadata; ``--json`` has all of it."""

models_app = typer.Typer(no_args_is_help=True, help="See, get, measure and delete model files.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
HubSpec = Annotated[str, typer.Argument(help="hf:ORG/REPO/FILE.gguf[@REVISION]", metavar="SPEC", show_default=False)]
AnySpec = "bundled, llama_cpp:PATH or llama_cpp:hf:ORG/REPO/FILE.gguf"


@models_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the models on this machine: the bundled reader, and the GGUFs in the Hugging Face cache."""

    def work() -> int:
        from fourcorners.models.shelf import model_files

        rows = [_row(model) for model in model_files()]
        if as_json:
            _print_json(rows)
            return 0
        names = ("spec", "size", "weights", "context", "format", "prompt format", "checksum")
        _print_table(names, [_cells(row) for row in rows])
        for row in rows:
            if row["problem"]:
                _tell(row["problem"])
        return 0

    _run(work)


@models_app.command("pull")
def pull_command(spec: HubSpec, as_json: JsonOption = False) -> None:
    """Download a model of the Hugging Face hub, all its parts, and compare it with the hub's checksum.

    Run it again after an interruption: it goes on where it broke off. What is here already is compared again, and got
    anew where it is damaged. HF_TOKEN opens gated repositories, HF_HOME says where models are kept.
    """

    def work() -> int:
        from fourcorners.models.hub import Hub
        from fourcorners.models.shelf import cached_file

        file, hub = _hub_file(spec), Hub()
        hub.fetch(file, check=True, tell=_tell)
        model = cached_file(hub, file)
        if as_json:
            _print_json(_row(model))
        else:
            _print(f"{model.spec}\n{model.path}\n")
        return _status(model)

    _run(work)


@models_app.command("info")
def info_command(
    spec: Annotated[str, typer.Argument(help=AnySpec, show_default=False)], as_json: JsonOption = False
) -> None:
    """Show what a model file says of itself. Only its header is read: it is not loaded, and nothing is downloaded."""

    def work() -> int:
        model = _model(spec)
        if as_json:
            _print_json(_details(model))
        else:
            lines = {**_details(model), "metadata": ""}
            texts = [(name, str(value)) for name, value in lines.items() if value not in ("", None, {})]
            metadata = dict(model.header.metadata) if model.header else {}
            _print_table(("", ""), [*texts, *((name, str(value)) for name, value in sorted(metadata.items()))])
        return _status(model)

    _run(work)


@models_app.command("bench")
def bench_command(
    specs: Annotated[list[str], typer.Argument(help=AnySpec, metavar="SPEC…", show_default=False)],
    prompt_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Length of the made-up prompts.")] = 512,
    new_tokens: Annotated[int, typer.Option(metavar="N", min=2, help="Length of the answers.")] = 64,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Runs that the median is of.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Measure models on this machine: time to first token, prefill and decode rates, memory.

    Each runs in a process of its own, one request at a time. A model of the hub is downloaded first.
    """

    def work() -> int:
        from fourcorners.errors import ModelLoadError, SettingsError
        from fourcorners.llms.bench import bench
        from fourcorners.models.gguf_header import read_header

        rows: list[dict[str, Any]] = []
        paths = {spec: _path(spec) for spec in specs}  # names first: they are told at once
        for spec, path in paths.items():
            row: dict[str, Any] = {"spec": spec, "problem": ""}
            try:
                _check_room(read_header(path()), prompt_tokens + new_tokens)
                options = {"n_prompt_tokens": prompt_tokens, "n_new_tokens": new_tokens, "repeats": repeats}
                with _stderr().status(f"Measuring {_printable(spec)} …"):
                    row |= asdict(bench(path(), **options))
            except (ModelLoadError, SettingsError) as error:
                row["problem"] = str(error)
                _tell(f"error: {error}", "red")
            rows.append(row)
        if as_json:
            _print_json(rows)
        else:
            names = ("spec", "load (s)", "first token (s)", "prefill (tokens/s)", "decode (tokens/s)", "memory (MiB)")
            _print_table(names, [_measured(row) for row in rows])
        n_failed = sum(bool(row["problem"]) for row in rows)
        return 0 if not n_failed else 1 if n_failed == len(rows) else 4

    _run(work)


@models_app.command("remove")
def remove_command(spec: HubSpec, as_json: JsonOption = False) -> None:
    """Delete a model from the Hugging Face cache, and what came of interrupted downloads of its repository."""

    def work() -> int:
        from fourcorners.models.hub import Hub
        from fourcorners.models.shelf import remove

        file = _hub_file(spec)
        freed = remove(Hub(), file)
        if as_json:
            _print_json({"spec": file.spec, "freed_bytes": freed})
        else:
            _tell(f"removed {file.spec}: {_size(freed)} are free")
        return 0

    _run(work)


# What a spec names


def _hub_file(spec: str) -> HubFile:
    from fourcorners.models.hub_file import hub_file

    return hub_file(spec.removeprefix("llama_cpp:"))


def _path(spec: str) -> Callable[[], Path]:
    """How to come by the file of ``spec``, downloaded where it is to be. Raises SettingsError for others at once."""
    from fourcorners.errors import SettingsError
    from fourcorners.models import reader_path
    from fourcorners.models.hub import Hub
    from fourcorners.models.hub_file import SCHEME

    if spec == "bundled":
        return reader_path
    provider, _, name = spec.partition(":")
    if provider == SCHEME.rstrip(":") or name.startswith(SCHEME):
        file = _hub_file(spec)
        return lambda: Hub().fetch(file, tell=_tell)
    if provider != "llama_cpp" or not name:
        raise SettingsError(f"{spec!r} names no model file: give {AnySpec}")
    return lambda: Path(name)


def _model(spec: str) -> ModelFile:
    from fourcorners.models.hub import Hub
    from fourcorners.models.hub_file import SCHEME
    from fourcorners.models.shelf import cached_file, file_at

    path = _path(spec)
    return (
        cached_file(Hub(), _hub_file(spec)) if SCHEME in spec.removeprefix("llama_cpp:")[:3] else file_at(spec, path())
    )


def _check_room(header: Any, n_tokens: int) -> None:
    from fourcorners.errors import SettingsError

    if 0 < header.n_context_tokens < n_tokens:
        raise SettingsError(
            f"prompt and answer have {n_tokens} tokens, but the model was made for {header.n_context_tokens}: give "
            "fewer (--prompt-tokens, --new-tokens)"
        )


# What is shown


def _row(model: ModelFile) -> dict[str, Any]:
    from fourcorners.prompts.detection import format_of_gguf

    header = model.header
    return {
        "spec": model.spec,
        "path": str(model.path),
        "bytes": model.n_bytes,
        "format": f"GGUF v{header.version}" if header else "",
        "architecture": header.architecture if header else "",
        "quantisation": header.quantisation if header else "",
        "context_tokens": header.n_context_tokens if header else 0,
        "prompt_format": format_of_gguf(header.text_metadata, model=model.spec).name if header else "",
        "checksum": model.checksum,
        "checked": model.checked,
        "problem": model.problem,
    }


def _details(model: ModelFile) -> dict[str, Any]:
    header = model.header
    more = (
        {}
        if header is None
        else {
            "parameters": header.n_parameters,
            "tensors": header.n_tensors,
            "tensor_bytes": dict(header.tensor_bytes),
            "vocabulary_tokens": header.n_vocabulary,
            "parts": header.n_parts,
            "metadata": dict(header.metadata),
        }
    )
    return _row(model) | more


def _cells(row: Mapping[str, Any]) -> list[str]:
    context = f"{row['context_tokens']:,}" if row["context_tokens"] else ""
    checksum = "checked" if row["checked"] else "unchecked" if row["checksum"] else ""
    state = "unusable" if row["problem"] else checksum
    return [row["spec"], _size(row["bytes"]), row["quantisation"], context, row["format"], row["prompt_format"], state]


def _measured(row: Mapping[str, Any]) -> list[str]:
    if row["problem"]:
        return [row["spec"], "failed", *[""] * 4]
    names = ("load_s", "first_token_s", "prefill_tokens_per_s", "decode_tokens_per_s", "peak_mib")
    return [row["spec"], *(f"{row[name]:,.{digits}f}" for name, digits in zip(names, (2, 3, 0, 1, 0), strict=True))]


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def _status(model: ModelFile) -> int:
    if model.problem:
        _tell(f"error: {model.problem}", "red")
    return 1 if model.problem else 0


def _print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    import sys

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(names))
    for number, name in enumerate(names):
        is_number = name.endswith(")") or name in ("size", "context")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold", no_wrap=not number)
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    (Console() if sys.stdout.isatty() else Console(width=WIDTH)).print(table)


def _printable(text: str) -> str:
    """On one line, and harmless on a terminal: a model file is somebody else's."""
    from fourcorners.cli import _VISIBLE

    line = " ".join(text.split()).translate(_VISIBLE)
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + "…"


def _print_json(value: Any) -> None:
    import json

    from fourcorners.cli import _plain

    _print(json.dumps(_plain(value), default=str) + "\n")


def _print(text: str) -> None:
    from fourcorners.cli import _write

    _write(text)


def _tell(message: str, style: str = "yellow") -> None:
    from fourcorners.cli import _tell as tell

    tell(message, style)


def _stderr() -> Any:
    from fourcorners.cli import _stderr as stderr

    return stderr()


def _run(work: Callable[[], int]) -> None:
    from fourcorners.cli import _status_of

    raise typer.Exit(_status_of(work))
