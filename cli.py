"""The command line: ``fourcorners ask``, ``chat``, ``index``, ``eval``, ``calibrate``, ``models``, ``serve`` and
``mcp``.

The answer goes to standard output, everything else to standard error. Exit status: 0 answered, 3 refused, 2 bad usage
or input that can't be used, 1 a fault, 4 done but for some files or rows, 130 interrupted. Nothing heavy is imported
before a command needs it, and the model is loaded last, so that a slip in the arguments is told at once.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourcorners import __version__
from fourcorners.cli_calibrate import calibrate_command
from fourcorners.cli_chat import chat
from fourcorners.cli_eval import EXAMPLES, ThresholdsOption, eval_command
from fourcorners.cli_index import index_command
from fourcorners.cli_models import models_app

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from rich.console import Console

    from fourcorners.retrieval import DocumentIndex
    from fourcorners.settings import ServerSettings

ANSWERED, FAULT, BAD_USAGE, REFUSED, SKIPPED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 130, 141
"""Exit statuses; the last two are what a shell reports for a program ended by SIGINT and SIGPIPE."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Answers a question only from the text supplied, with exact citations, or says that it is unsure.",
)


class Span(StrEnum):
    """What an answer is made of."""

    sentence = "sentence"
    phrase = "phrase"


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8, a path that is not UTF-8
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fourcorners {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


_EXAMPLES = """\
[bold]Examples[/bold]

fourcorners ask "How long is the warranty?" manual.md

fourcorners ask "Who may cancel a booking?" policies/ notes.txt

fourcorners index manuals/ && fourcorners ask "How long is the warranty?" --index manuals/

pdftotext report.pdf - | fourcorners ask "What was the turnover?"

fourcorners ask "Which year?" --context "It began in 1986." --span phrase

[bold]Exit status[/bold]: 0 answered, 3 refused, 2 bad usage or unreadable input, 1 fault
"""


@app.command(epilog=_EXAMPLES)
def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.", show_default=False)],
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Text, HTML, PDF and Word files, folders, or - for standard input.", show_default=False),
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text to answer from; may be repeated.", show_default=False)
    ] = None,
    index: Annotated[
        str | None, typer.Option(metavar="FILE", help="An index (or its folder) to search instead.", show_default=False)
    ] = None,
    llm: Annotated[
        str | None, typer.Option(metavar="SPEC", help="The model: bundled (the default), llama_cpp:PATH, …")
    ] = None,
    span: Annotated[Span | None, typer.Option(help="Whole sentences (the default) or one short phrase.")] = None,
    max_spans: Annotated[
        int | None, typer.Option(metavar="N", help="How many of them an answer may have, 1 (the default) to 20.")
    ] = None,
    refusal: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to say when the answer is not in the text.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="Refuse above this refusal score; lower refuses more often.")
    ] = None,
    thresholds: ThresholdsOption = None,
    passages: Annotated[
        int | None, typer.Option(metavar="K", help="How many passages to read, 1 to 100; 4 by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole reply as one JSON object.")] = False,
) -> None:
    """Answer a QUESTION from files, folders or standard input, and cite the places.

    The answer is printed as it comes; its source follows on standard error as file:line.
    """

    def work() -> int:
        from fourcorners.prompts.grounded import grounded_prompt
        from fourcorners.settings import load_settings

        settings = load_settings(
            llm=llm, passages=passages, span=span, max_spans=max_spans, index=index, thresholds=thresholds
        )
        grounding: dict[str, Any] = {"span": settings.span, "max_spans": settings.max_spans, "threshold": threshold}
        grounding |= {"refusal": refusal} if refusal is not None else {}
        # The chain would check all this too, but only once its model is loaded.
        grounded_prompt(**grounding).format_prompt(question=question, context=context or [])
        found = _open(index, settings.index, paths or [], context or [])
        reply = _answer(question, found, settings, grounding, stream=not as_json)
        if as_json:
            _print_json(reply)
        else:
            _print_sources(reply, len(found))
        return REFUSED if reply["refused"] else ANSWERED

    raise typer.Exit(_status_of(work))


app.command()(chat)
app.command("index")(index_command)
app.command("eval", epilog=EXAMPLES)(eval_command)
app.command("calibrate")(calibrate_command)
app.add_typer(models_app, name="models")


@app.command()
def serve(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Text files and folders that /rag answers from.", show_default=False)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="8000 by default; 0 picks a free one.")] = None,
    index: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An index (or its folder) that /rag answers from.")
    ] = None,
    llm: Annotated[str | None, typer.Option(metavar="SPEC", help="The model: bundled (the default), …")] = None,
    thresholds: ThresholdsOption = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Also serve /v1/completions as OpenAI has it, for load tools: ungrounded text."),
    ] = False,
) -> None:
    """Serve the chains over REST (LangServe), with a playground and /docs."""

    def work() -> int:
        from fourcorners.server import serve as run

        run(host=host, port=port, llm=llm, raw=raw or None, paths=paths or [], index=index, thresholds=thresholds)
        return ANSWERED

    raise typer.Exit(_status_of(work))


@app.command("mcp")
def serve_mcp(
    paths: Annotated[list[str], typer.Argument(help="Text and Markdown files, and folders.", show_default=False)],
    llm: Annotated[
        str | None, typer.Option(metavar="SPEC", help="The model: bundled (the default), llama_cpp:PATH, …")
    ] = None,
    span: Annotated[Span | None, typer.Option(help="Whole sentences (the default) or one short phrase.")] = None,
    max_spans: Annotated[
        int | None, typer.Option(metavar="N", help="How many of them an answer may have, 1 (the default) to 20.")
    ] = None,
    refusal: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to say when the answer is not in the text.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="Refuse above this refusal score; lower refuses more often.")
    ] = None,
    thresholds: ThresholdsOption = None,
    passages: Annotated[
        int | None, typer.Option(metavar="K", help="How many passages to read, 1 to 100; 4 by default.")
    ] = None,
) -> None:
    r"""Offer files and folders to agents as an MCP server on standard input and output, until the input ends.

    Needs the extra: pip install 'fourcorners\[mcp]'. Standard output carries the protocol and nothing else.
    """

    def work() -> int:
        from fourcorners.errors import SourceError
        from fourcorners.mcp_server import protocol_only
        from fourcorners.mcp_server import serve as run
        from fourcorners.prompts.grounded import grounded_prompt
        from fourcorners.retrieval import STDIN, load_passages
        from fourcorners.settings import load_settings

        settings = load_settings(llm=llm, passages=passages, span=span, max_spans=max_spans, thresholds=thresholds)
        grounding: dict[str, Any] = {"span": settings.span, "max_spans": settings.max_spans, "threshold": threshold}
        grounding |= {"refusal": refusal} if refusal is not None else {}
        grounded_prompt(**grounding)  # checked before the model is loaded
        if STDIN in paths:
            raise SourceError("standard input can't be read as a document here: it carries the protocol. Name files.")
        with protocol_only() as wire:
            from fourcorners.llms import init_llm
            from fourcorners.retrieval import bm25_retriever

            found = load_passages(paths, warn=_tell)
            retriever = bm25_retriever(found, k=settings.passages)
            run(wire, retriever, init_llm(settings.llm, **settings.loading), found, **grounding)
        return ANSWERED

    raise typer.Exit(_status_of(work))


def _status_of(work: Callable[[], int]) -> int:
    """The exit status of ``work``; what went wrong is told in one line."""
    debug = _is_debugging()
    os.environ.pop("FOURCORNERS_DEBUG", None)  # the settings refuse names with their prefix that are no settings
    try:
        return work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at exit
        return BROKEN_PIPE
    except Exception as error:
        return _report(error, debug)


def _is_debugging() -> bool:
    """Whether tracebacks are to be shown."""
    return os.environ.get("FOURCORNERS_DEBUG", "") not in ("", "0")


def _report(error: Exception, debug: bool) -> int:
    """Tell in one line what went wrong; the exit status for it."""
    from fourcorners.errors import FourCornersError, InputError

    if debug:
        traceback.print_exception(error)
    foreseen = isinstance(error, FourCornersError)
    message = str(error) if foreseen else f"{type(error).__name__}: {error} (FOURCORNERS_DEBUG=1 shows where)"
    _tell(f"error: {message}", "red")
    return BAD_USAGE if isinstance(error, InputError) else FAULT


def _open(
    named: str | None, index: Path | None, paths: list[str], context: list[str]
) -> list[Document] | DocumentIndex:
    """The index, where one was ``named`` or is set and no text was given; else the text."""
    from fourcorners.errors import SettingsError
    from fourcorners.retrieval import open_index

    if named is not None and (paths or context):
        raise SettingsError(f"text and an index ({named!r}) are given: leave out one of them.")
    return _read(paths, context) if index is None or paths or context else open_index(index)


def _read(paths: list[str], context: list[str]) -> list[Document]:
    from fourcorners.errors import SourceError
    from fourcorners.retrieval import STDIN, load_passages, passages_of

    if not paths and not context:
        if sys.stdin is None or sys.stdin.isatty():
            raise SourceError("no text to answer from: name files or folders, give --context TEXT, or pipe text in.")
        paths = [STDIN]
    found = load_passages(paths, warn=_tell)
    for number, text in enumerate(context, start=1):
        found += passages_of(text, f"context {number}")
    return found


def _answer(
    question: str,
    passages: list[Document] | DocumentIndex,
    settings: ServerSettings,
    grounding: dict[str, Any],
    *,
    stream: bool,
) -> dict[str, Any]:
    """The whole reply; with ``stream`` its answer is printed as it comes."""
    with _stderr().status("Reading …") as spinner:  # nothing where there is no terminal
        from fourcorners.chains.rag import rag_chain
        from fourcorners.llms import init_llm
        from fourcorners.retrieval import bm25_retriever

        k = settings.passages
        retriever = bm25_retriever(passages, k) if isinstance(passages, list) else passages.as_retriever(k)
        chain = rag_chain(retriever, init_llm(settings.llm, **settings.loading), **grounding)
        reply: Any = None
        last = "\n"
        try:
            for chunk in chain.stream(question):
                reply = chunk if reply is None else reply + chunk
                if stream and chunk.get("answer"):
                    spinner.stop()
                    last = chunk["answer"]
                    _write(last)
        finally:
            if not last.endswith("\n"):
                _write("\n")
    return dict(reply)


def _print_sources(reply: Mapping[str, Any], n_passages: int) -> None:
    for citation in _citations(reply):
        place = citation.get("page") or citation.get("paragraph") or citation["line"]
        _tell(f'{citation["source"]}:{place}: "{citation["quote"]}"', "cyan")
    if any(citation["contradicts"] for citation in reply["citations"]):
        _tell("these sources contradict each other")
    n_read = len(reply["context"])
    if reply["refused"]:
        more = f" ({n_read} of {n_passages} passages; --passages K reads more)" if n_read < n_passages else ""
        _tell(f"not in the text read{more}")
    if reply["guarantee"] != "enforced":
        _tell(f"guarantee: {reply['guarantee']} (this model was asked to keep to the text, not made to)")


def _citations(reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The reply's citations, each with the file and the place in it where it begins."""
    from fourcorners.retrieval import place_of

    pairs = [(citation, reply["context"][citation["index"]]) for citation in reply["citations"]]
    return [{**c, "source": passage.metadata["source"], **place_of(passage, c["start"])} for c, passage in pairs]


def _print_json(reply: Mapping[str, Any]) -> None:
    is_utf8 = sys.stdout.encoding.lower() == "utf-8"
    plain = _plain({**reply, "citations": _citations(reply)})
    text = json.dumps(plain, ensure_ascii=not is_utf8, default=str)
    print(text.translate(_VISIBLE_JSON) if sys.stdout.isatty() else text, flush=True)


def _plain(value: Any) -> Any:
    """``value`` in what JSON has: documents as objects, an infinite score as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "page_content"):
        return {"id": value.id, "page_content": value.page_content, "metadata": _plain(value.metadata)}
    return value


def _write(text: str) -> None:
    """Print a piece of the answer: on a terminal harmless, elsewhere byte for byte."""
    print(text.translate(_VISIBLE) if sys.stdout.isatty() else text, end="", flush=True)


def _tell(message: str, style: str = "yellow") -> None:
    from rich.text import Text

    _stderr().print(Text(" ".join(message.split()).translate(_VISIBLE), style=style), soft_wrap=True)


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


_CONTROLS = [*range(9), *range(11, 13), *range(14, 32), *range(127, 160)]
_INVISIBLE = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)]
"""Marks that turn the direction of the text around them, and letters that nobody sees."""
_VISIBLE = (
    {code: f"\\x{code:02x}" for code in _CONTROLS}
    | {code: f"\\u{{{code:x}}}" for code in _INVISIBLE}
    | {ord("\r"): " "}  # it would let a text write over the beginning of its line
)
"""A document may hold escape sequences; a terminal must not obey them."""
_VISIBLE_JSON = {127: r"\u007f"} | {code: json.dumps(chr(code))[1:-1] for code in _VISIBLE if code > 127}
"""The same for JSON, which reads as before."""
