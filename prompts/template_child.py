"""What runs in the process that ``template_sandbox`` starts: it renders a chat template and can do nothing else.

Its text is handed to a bare interpreter, so it imports nothing of this package. It reads one JSON object from standard
input and writes one to standard output.
"""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import datetime
from typing import Any


def confine(cpu_seconds: int, memory_bytes: int) -> None:
    """Give up what rendering does not need. Systems without these limits (Windows) leave it to the caller's clock."""
    with contextlib.suppress(ImportError):
        import resource

        limits = {
            "RLIMIT_CPU": cpu_seconds,
            "RLIMIT_AS": memory_bytes,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NPROC": 0,
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": 3,
        }
        for name, value in limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def environment() -> Any:
    """Jinja as the transformers library sets it up for chat templates, which are written for that."""
    # What Jinja and Python would import while a template is read or fails; by then no file can be opened.
    import encodings.unicode_escape  # noqa: F401
    import textwrap  # noqa: F401

    import jinja2.debug
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """``{% generation %}`` marks what a model is trained on; it shows as what stands in it."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    del made.globals["lipsum"]
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def said(error: BaseException) -> str:
    """What went wrong, in a line; the text is the template's own and may be anything."""
    if isinstance(error, MemoryError):
        return "it takes more memory than a template is given"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"{type(error).__name__}: {error}"[:200]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """``texts`` and ``errors`` hold one entry for each conversation; ``broken`` says why there is none."""
    jinja = environment()
    confine(job["cpu_seconds"], job["memory_bytes"])
    try:
        template = jinja.from_string(job["template"])
    except Exception as error:
        return {"broken": said(error)}
    texts: list[str | None] = []
    errors: list[str] = []
    for messages, opened in zip(job["conversations"], job["opened"], strict=True):
        text, problem = None, ""
        try:
            text = template.render(
                messages=messages,
                add_generation_prompt=opened,
                bos_token=job["bos"],
                eos_token=job["eos"],
            )
            if len(text) > job["max_chars"]:
                text, problem = None, f"it writes more than {job['max_chars']} characters"
        except Exception as error:
            problem = said(error)
        texts.append(text)
        errors.append(problem)
    return {"texts": texts, "errors": errors}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    sys.path.extend(given["path"])
    json.dump(run(given), sys.stdout)
