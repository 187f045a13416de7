"""Chat templates are programs that come with a model file. They are rendered here, in a process that can do no harm.

Three walls: Jinja's immutable sandbox, which reaches no attribute that begins with an underscore; a process of its own
without environment variables, which may not open files, start processes, take more than MEMORY_BYTES or run longer than
CPU_SECONDS (Linux; macOS enforces no memory limit, Windows only the time); and a limit on what goes in and comes out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from fourcorners.errors import shortened

MAX_TEMPLATE_CHARS = 100_000
"""The longest of those that llama.cpp is tested with has 17,000."""
MAX_TEXT_CHARS = 50_000
CPU_SECONDS = 2
WALL_SECONDS = 60
"""On a busy machine the process may have to wait for its two seconds."""
MEMORY_BYTES = 512 * 2**20

Conversation = Sequence[Mapping[str, str]]


class TemplateFault(Exception):
    """A template can't be used; the message says why, as the end of a sentence."""


def render(
    template: str,
    conversations: Sequence[Conversation],
    *,
    opened: Sequence[bool] | None = None,
    bos: str = "",
    eos: str = "",
) -> list[str | TemplateFault]:
    """What ``template`` makes of each conversation, or why it would not: many refuse a system message.

    ``opened`` says for each whether it is to end where the answer begins (``add_generation_prompt``; None: all).
    Takes 0.1 to 0.3 s, most of it to start the process. Raises TemplateFault where the template can't be used at all: a
    syntax error, too long, too slow, too large, or no process can be started.
    """
    if len(template) > MAX_TEMPLATE_CHARS:
        raise TemplateFault(f"it has {len(template)} characters, {MAX_TEMPLATE_CHARS} are allowed")
    job = {
        "path": _path(),
        "template": template,
        "conversations": [list(map(dict, one)) for one in conversations],
        "opened": [True] * len(conversations) if opened is None else list(opened),
        "bos": bos,
        "eos": eos,
        "cpu_seconds": CPU_SECONDS,
        "memory_bytes": MEMORY_BYTES,
        "max_chars": MAX_TEXT_CHARS,
    }
    answer = _answer(job)
    if "broken" in answer:
        raise TemplateFault(str(answer["broken"]))
    pairs = zip(answer["texts"], answer["errors"], strict=True)
    return [TemplateFault(error) if text is None else text for text, error in pairs]


def _answer(job: Mapping[str, object]) -> dict[str, list[str]]:
    source = files(__package__).joinpath("template_child.py").read_text("utf-8")
    if not sys.executable:
        raise TemplateFault("there is no Python interpreter to render it in a process of its own")
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", source]
    environment = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=WALL_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TemplateFault(f"it takes longer than {WALL_SECONDS} seconds") from None
    except OSError as error:
        raise TemplateFault(f"no process could be started to render it ({error})") from error
    if done.returncode == 0:
        answer: dict[str, list[str]] = json.loads(done.stdout)
        return answer
    if hasattr(signal, "SIGXCPU") and -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise TemplateFault(f"it takes longer than {CPU_SECONDS} seconds")
    if "MemoryError" in done.stderr:
        raise TemplateFault("it takes more memory than a template is given")
    last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    raise TemplateFault(f"its process ended early: {shortened(last[0], 200)}")


def _path() -> list[str]:
    """Where Jinja is; the process starts without site-packages, which saves it half of its time."""
    import jinja2
    import markupsafe

    places = [Path(str(module.__file__)).parents[1] for module in (jinja2, markupsafe)]
    return [str(place) for place in dict.fromkeys(places)]
