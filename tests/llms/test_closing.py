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
for _ in range(5):
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


CLOSED_WHILE_MASKS_ARE_MADE = """
import threading, time
from fourcorners import init_llm
from fourcorners.errors import EngineClosed, EngineError
schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
for number in range(12):
    llm = init_llm("bundled", n_context_tokens=256)
    ends, n_done = [], []
    def ask(llm=llm):
        try:
            while True:
                llm.invoke("Ferries", json_schema=schema, max_new_tokens=3)
                n_done.append(1)
        except BaseException as error:
            ends.append(type(error))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(n_done) < 4:
        time.sleep(0.001)
    time.sleep(0.001 * number)
    llm.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert set(ends) == {EngineClosed}, ends
"""
USED_AFTER_A_FORK = """
import os, sys, threading, time
from fourcorners import answer_chain, init_llm
from fourcorners.errors import EngineError
llm = init_llm("bundled")
given = {"question": "Is it?", "context": "It is."}
assert answer_chain(llm).invoke(given)
stream = llm.stream("Ferries", ignore_eos=True, max_new_tokens=400)
next(stream)
vocabulary = llm._engine.runner.vocabulary
with vocabulary._open():  # as if another thread were tokenizing
    child = os.fork()
if child == 0:
    for ask in (
        lambda: llm.invoke("Ferries"),
        lambda: answer_chain(llm).invoke(given),
        lambda: llm.complete("Ferries"),
        lambda: llm.warm("It is."),
    ):
        try:
            ask()
            print("no error")
        except EngineError as error:
            assert "fork" in str(error), error
    llm.close()
    sys.exit(3)
for _ in range(500):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.02)
else:
    os.kill(child, 9)
    raise SystemExit("the child hangs")
assert os.waitstatus_to_exitcode(status) == 3, status
assert len("".join(stream)) > 100
assert answer_chain(llm).invoke(given)
"""


@pytest.mark.parametrize("code", [USED_AFTER_CLOSE, CLOSED_IN_USE, CLOSED_WHILE_MASKS_ARE_MADE, USED_AFTER_A_FORK])
def test_closed_is_closed_and_no_crash(code: str) -> None:
    """In a process of its own: reading a vocabulary that was freed ends the process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == done.stderr == ""


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
