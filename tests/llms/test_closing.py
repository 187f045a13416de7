"""A closed LLM is closed: nothing crashes, nothing hangs, nothing is left behind."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from fourcorners import init_llm
from fourcorners.errors import EngineClosed
from fourcorners.llms.llama_cpp import LlamaCpp

pytestmark = pytest.mark.timeout(60)


USED_AFTER_CLOSE = """
from fourcorners import answer_chain, init_llm
from fourcorners.errors import EngineClosed
llm = init_llm("bundled")
llm.close()
llm.close()
given = {"question": "Is it?", "context": "It is."}
for ask in (lambda: llm.invoke("Ferries"), lambda: answer_chain(llm).invoke(given)):
    try:
        ask()
        raise SystemExit("no error")
    except EngineClosed as error:
        assert "make a new one" in str(error), error
"""
CLOSED_IN_USE = """
import threading
from fourcorners import answer_chain, init_llm
from fourcorners.errors import EngineClosed
given = {"question": "When does it leave? " * 20, "context": "It leaves at 6:40. " * 2000}
for _ in range(10):
    llm = init_llm("bundled")
    ends = []
    def ask(chain=answer_chain(llm)):
        try:
            while True:
                chain.invoke(given)
        except BaseException as error:
            ends.append(type(error))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    answer_chain(llm).invoke({"question": "Is it?", "context": "It is."})
    llm.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert set(ends) == {EngineClosed}, ends
"""


@pytest.mark.parametrize("code", [USED_AFTER_CLOSE, CLOSED_IN_USE])
def test_closed_is_closed_and_no_crash(code: str) -> None:
    """In a process of its own: reading a vocabulary that was freed ends the process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr[-2000:]


def test_close_fails_a_running_stream_and_hangs_nobody(own_llm: LlamaCpp) -> None:
    stream = own_llm.stream("Ferries", temperature=3.0, seed=1, max_new_tokens=900, repetition_penalty=1.5)
    next(stream)
    own_llm.close()
    with pytest.raises(EngineClosed):
        for _ in stream:
            pass


def test_a_dropped_llm_frees_its_model() -> None:
    llm = init_llm("bundled")
    assert isinstance(llm, LlamaCpp)
    engine, gone = llm._engine, weakref.ref(llm)
    del llm
    gc.collect()
    assert gone() is None
    with pytest.raises(EngineClosed):
        engine.submit(iter(()))  # type: ignore[arg-type]
    assert "fourcorners-engine" not in {thread.name for thread in threading.enumerate() if thread is engine._thread}
