"""The chains over REST: LangServe routes for /answer, /grounded, /rag, /chat and /instruct, with /docs, /health and,
if asked, raw text.

``uvicorn fourcorners.server:app`` and ``fourcorners serve`` run the same app. The model is loaded when serving starts,
never at import, and is closed when serving ends. What a client gets when something is wrong: ``rest.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langserve import add_routes
from langserve.server import EndpointName
from pydantic import Field
from sse_starlette.sse import AppStatus

from fourcorners.chains.answer import Llm, Question, answer_chain, grounded_chain
from fourcorners.chains.chat import ChatQuestion, chat_chain
from fourcorners.chains.instruct import Instruction, instruct_chain
from fourcorners.chains.rag import RagQuestion, rag_chain
from fourcorners.completions import completer_of, completion_routes
from fourcorners.llms import init_llm
from fourcorners.rest import ChainRoute, add_refusals, body_check
from fourcorners.settings import ServerSettings, load_settings

ENDPOINTS: tuple[EndpointName, ...] = (
    "invoke",
    "batch",
    "stream",
    "stream_events",
    "stream_log",  # the playground runs on it
    "playground",
    "input_schema",
    "output_schema",
    "config_schema",
    "config_hashes",  # where the playground's Share button points
)


class Asked(Question):
    """``Question`` for the playground, which draws a union as its last member: a text box, not an empty table."""

    context: list[str | Document] | Annotated[str, Field(title="Context")]


def create_app(
    llm: Llm | None = None,
    *,
    documents: Sequence[Document] | None = None,
    retriever: Runnable[str, Any] | None = None,
    settings: ServerSettings | None = None,
) -> FastAPI:
    """The app. Its chain routes appear when it starts, because only then the model is there.

    Without ``llm`` the one that the settings name is loaded at the start and closed at the end; an ``llm`` passed in
    stays the caller's to close. ``/rag`` answers from ``retriever``, ``documents``, or the settings' paths or index.
    Raises SettingsError where the settings want raw completions and ``llm`` has none.
    """
    chosen = settings or load_settings()
    if llm is not None and chosen.raw:
        completer_of(llm)
    # LangServe calls astream_log for its playground: nothing that whoever reads the log could change.
    warnings.filterwarnings("ignore", message="astream_log is deprecated")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # sse-starlette keeps these for the process: streams of a second server in it, a restart say, would fail.
        AppStatus.should_exit, AppStatus.should_exit_event = False, None
        found = await asyncio.to_thread(_retriever, documents, chosen) if retriever is None else retriever
        model = await asyncio.to_thread(init_llm, chosen.llm, **chosen.loading) if llm is None else llm
        pages = list(app.router.routes)
        app.include_router(_chain_routes(model, found, chosen))
        if chosen.raw:
            app.include_router(completion_routes(model))
        yield
        app.router.routes[:] = pages  # an app may be started again, with another model
        if llm is None:
            await asyncio.to_thread(getattr(model, "close", lambda: None))

    app = FastAPI(
        title="fourcorners",
        version=version("fourcorners"),
        description="Answers from the text supplied, with exact citations, or says that it is unsure.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_refusals(app, chosen.max_body_bytes)
    _add_pages(app)
    return app


def serve(
    paths: Sequence[Path] = (),
    *,
    host: str | None = None,
    port: int | None = None,
    llm: str | None = None,
    raw: bool | None = None,
    index: Path | None = None,
    thresholds: Path | None = None,
) -> None:
    """Serve until interrupted. What is not given comes from the settings; the log goes to standard error.

    Raises a :class:`FourCornersError` before it listens when the documents or the model can't be used.
    """
    settings = load_settings(
        paths=tuple(paths) or None, index=index, host=host, port=port, llm=llm, raw=raw, thresholds=thresholds
    )
    retriever = _retriever(None, settings)
    model = init_llm(settings.llm, **settings.loading)
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises a caught signal again when it is done: SIGTERM would end the process before the model closes.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app = create_app(model, retriever=retriever, settings=settings)
        logs = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
        logs["handlers"]["access"]["stream"] = "ext://sys.stderr"
        uvicorn.run(app, host=settings.host, port=settings.port, log_config=logs, timeout_graceful_shutdown=10)
    finally:
        getattr(model, "close", lambda: None)()


def _retriever(documents: Sequence[Document] | None, settings: ServerSettings) -> BaseRetriever:
    # Late: langchain-community takes a second to import.
    from fourcorners.retrieval import bm25_retriever, retriever_for

    if documents is not None:
        return bm25_retriever(documents, k=settings.passages)
    return retriever_for(settings.paths, settings.index, settings.passages)


def _chain_routes(llm: Llm, retriever: Runnable[str, Any], settings: ServerSettings) -> APIRouter:
    options: dict[str, Any] = {"span": settings.span, "max_spans": settings.max_spans}
    chains: dict[str, tuple[Runnable[Any, Any], Any]] = {
        "/answer": (answer_chain(llm, **options), Asked),
        "/grounded": (grounded_chain(llm, **options), Asked),
        "/rag": (rag_chain(retriever, llm, **options), str | RagQuestion),
        "/chat": (chat_chain(retriever, llm, **options), str | ChatQuestion),
        "/instruct": (instruct_chain(llm), str | Instruction),
    }
    router = APIRouter(route_class=ChainRoute)
    for path, (chain, asked) in chains.items():
        # No config keys: a client must not change model, tags or callbacks of the server's chain.
        add_routes(
            router,
            chain,
            path=path,
            input_type=asked,
            config_keys=[],
            enabled_endpoints=ENDPOINTS,
            dependencies=[Depends(body_check(asked))],
        )
    for route in router.routes:
        if isinstance(route, APIRoute) and "{config_hash}" in route.path:
            route.include_in_schema = False  # every route of /docs would be there twice
    return router


def _add_pages(app: FastAPI) -> None:
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """FastAPI's own page takes its assets from the net, and is blank where there is none."""
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=f"{app.title} {app.version}",
            swagger_js_url=f"{root}/docs/assets/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/assets/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/assets/favicon-32x32.png",
        )

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers as soon as the model is loaded and the chains can be called."""
        return {"status": "ok", "version": app.version}


def __getattr__(name: str) -> Any:
    """``app`` for uvicorn, made when it is asked for, so that an import reads no settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app()
    return app


__all__ = ["create_app", "serve"]
