"""``fourcorners chat``: questions one after the other, each understood from those before it.

Answers go to standard output, all else to standard error, as with ``ask``. Exit status: 0 when it ended as it should,
with ``/quit`` or at the end of the input; 130 interrupted at the prompt. Where the questions are piped in, a question
that failed makes it 1 or 2 (as with ``ask``), after the last one is answered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourcorners.cli_eval import ThresholdsOption

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from fourcorners.settings import ServerSettings

_HELP = "/new forgets what was said, /sources shows what was read for the last answer, /quit leaves."


def chat(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Text and Markdown files, and folders.", show_default=False)
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
    max_spans: Annotated[
        int | None, typer.Option(metavar="N", help="How many sentences an answer may have, 1 (the default) to 20.")
    ] = None,
    passages: Annotated[
        int | None, typer.Option(metavar="K", help="How many passages to read for a question, 1 to 100; 4 by default.")
    ] = None,
    thresholds: ThresholdsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each reply as one JSON object on a line.")] = False,
) -> None:
    """Ask one question after the other; a later one may lean on those before it ("and why is that?").

    Every answer comes from the files, none from the conversation. /new forgets the conversation, /sources shows what
    was read for the last answer, /quit leaves. Ctrl-C ends an answer, and at the prompt the chat. Questions can be
    piped in, one a line.
    """
    from fourcorners import cli

    debug = cli._is_debugging()

    def work() -> int:
        from fourcorners.settings import load_settings

        settings = load_settings(llm=llm, passages=passages, max_spans=max_spans, index=index, thresholds=thresholds)
        return _opened(index, paths or [], context or [], settings, as_json=as_json, debug=debug).run()

    raise typer.Exit(cli._status_of(work))


def _opened(
    index: str | None,
    paths: list[str],
    context: list[str],
    settings: ServerSettings,
    *,
    as_json: bool,
    debug: bool,
) -> _Chat:
    """The chat, with its documents and its model loaded."""
    from fourcorners import cli

    with cli._stderr().status("Reading …"):  # nothing where there is no terminal
        from fourcorners.chains.chat import chat_chain
        from fourcorners.llms import init_llm

        retriever, n_passages = _retriever(index, paths, context, settings)
        model = init_llm(settings.llm, **settings.loading)
        chain = chat_chain(retriever, model, span=settings.span, max_spans=settings.max_spans)
    return _Chat(chain, n_passages, as_json=as_json, debug=debug)


def _retriever(
    index: str | None, paths: list[str], context: list[str], settings: ServerSettings
) -> tuple[Runnable[str, Any], int]:
    """Where the answers are looked up, and how many passages that has."""
    from fourcorners import cli
    from fourcorners.errors import SourceError
    from fourcorners.retrieval import STDIN, bm25_retriever

    if STDIN in paths:
        raise SourceError("standard input holds the questions: name files or folders to answer from.")
    if not paths and not context and settings.index is None:
        raise SourceError("no text to answer from: name files or folders, or give --context TEXT or --index FILE.")
    found = cli._open(index, settings.index, paths, context)
    k = settings.passages
    return bm25_retriever(found, k) if isinstance(found, list) else found.as_retriever(k), len(found)


@dataclass
class _Chat:
    chain: Runnable[Any, dict[str, Any]]
    n_passages: int
    as_json: bool
    debug: bool
    history: list[tuple[str, str]] = field(default_factory=list)
    last: dict[str, Any] | None = None

    def run(self) -> int:
        """Ask until there is no more; the exit status."""
        from fourcorners import cli

        with_person = sys.stdin is not None and sys.stdin.isatty()
        if with_person:
            cli._tell(f"{self.n_passages} passages. {_HELP}")
        status = cli.ANSWERED
        for question in _typed() if with_person else _piped():
            if question == "/quit":
                break
            try:
                status = self._take(question) or status
            except KeyboardInterrupt:
                if not with_person:
                    raise
                cli._stderr().print()
                cli._tell("stopped")
        return cli.ANSWERED if with_person else status

    def _take(self, line: str) -> int:
        """Do what a line asks for; the exit status for what went wrong, 0 where nothing did."""
        from fourcorners import cli

        if line == "/new":
            self.history.clear()
            cli._tell("forgotten")
        elif line == "/sources":
            self._show_sources()
        elif line.startswith("/") and len(line.split()) == 1:
            cli._tell(f"no command {line}. {_HELP}", "red")
        elif line:
            try:
                self._answer(line)
            except BrokenPipeError:
                raise
            except Exception as error:
                return cli._report(error, self.debug)
        return cli.ANSWERED

    def _answer(self, question: str) -> None:
        from fourcorners import cli

        reply = self._streamed(question)
        self.history += [("user", question), ("assistant", reply["answer"])]
        self.last = reply
        if self.as_json:
            cli._print_json(reply)
            return
        if reply["standalone_question"] != question:
            cli._tell(f"understood as: {reply['standalone_question']}", "dim")
        cli._print_sources(reply, self.n_passages)

    def _streamed(self, question: str) -> dict[str, Any]:
        """The whole reply, its answer printed as it comes."""
        from fourcorners import cli

        reply: Any = None
        last = "\n"
        stream: Any = self.chain.stream({"question": question, "history": list(self.history)})
        try:
            with cli._stderr().status("Reading …") as spinner, closing(stream):
                for chunk in stream:
                    reply = chunk if reply is None else reply + chunk
                    if not self.as_json and chunk.get("answer"):
                        spinner.stop()
                        last = chunk["answer"]
                        cli._write(last)
        finally:
            if not last.endswith("\n"):
                cli._write("\n")
        return dict(reply)

    def _show_sources(self) -> None:
        from fourcorners import cli
        from fourcorners.retrieval import line_of

        if self.last is None:
            cli._tell("nothing was read yet")
            return
        for passage in self.last["context"]:
            first = next((line for line in passage.page_content.splitlines() if line.strip()), "")
            cli._tell(f"{passage.metadata['source']}:{line_of(passage, 0)}: {first[:80]}", "cyan")


def _typed() -> Iterator[str]:
    """What a person types, until Ctrl-D."""
    from fourcorners import cli

    with suppress(ImportError):
        import readline  # noqa: F401 - arrow keys and the lines typed before
    while True:
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:
                cli._stderr().print("> ", end="")
                line = input()
        except EOFError:
            cli._stderr().print()
            return
        except UnicodeDecodeError as error:
            cli._tell(f"error: that is no {error.encoding} text: {error.reason}", "red")
            continue
        yield line.strip()


def _piped() -> Iterator[str]:
    """The lines of standard input; a line that is no UTF-8 is left to the chain to refuse."""
    if sys.stdin is None:
        return
    for number, line in enumerate(sys.stdin.buffer):
        text = line.decode("utf-8", errors="surrogateescape")
        yield (text.removeprefix("\ufeff") if number == 0 else text).strip()
