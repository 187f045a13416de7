import asyncio
import threading
from typing import Any

import pytest

from fourcorners import answer_chain, grounded_chain, init_llm
from fourcorners.errors import BackendRejected, BackendUnreachable, EngineBusy, EngineError, SettingsError
from fourcorners.llms.replicas import LONGEST_REST_S, Pool, Replica
from tests.llms.faulty import DONE, answer, faulty, stream, token

ASK = {"question": "What does a ticket cost?", "context": "The ferry is blue. A ticket costs €4."}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pool(n: int) -> tuple[Pool, Clock]:
    clock, llm = Clock(), init_llm("tgi:http://localhost:9")
    return Pool([Replica(str(number), llm) for number in range(n)], clock), clock


def taken(one: Pool, tried: tuple[Replica, ...] = ()) -> Replica:
    replica = one.take(tried)
    assert replica is not None
    return replica


def test_the_one_with_the_fewest_under_way_comes_first() -> None:
    replicas, _ = pool(3)
    first = [taken(replicas) for _ in range(3)]
    assert {one.spec for one in first} == {"0", "1", "2"}
    replicas.done(first[1], None, answered=True)
    assert taken(replicas) is first[1]


def test_equals_take_turns() -> None:
    replicas, _ = pool(2)
    specs = []
    for _ in range(6):
        one = taken(replicas)
        specs.append(one.spec)
        replicas.done(one, None, answered=True)
    assert specs.count("0") == specs.count("1") == 3


def test_one_that_failed_rests_longer_each_time_and_is_tried_again_with_one_request() -> None:
    replicas, clock = pool(2)
    bad = next(one for one in (taken(replicas), taken(replicas)) if one.spec == "0")
    for rest in (1, 2, 4, 8):
        replicas.done(bad, EngineError("no"), answered=False)
        assert bad.rests_until == clock.now + rest
        assert taken(replicas).spec == "1"
        clock.now += rest
        assert taken(replicas) is bad
        assert taken(replicas).spec == "1", "while it is tried, with one request, the others take the rest"
    replicas.done(bad, None, answered=True)
    assert bad.n_failures == 0
    assert taken(replicas) is bad


def test_a_rest_has_an_end_and_is_as_long_as_the_server_said() -> None:
    replicas, clock = pool(1)
    busy = EngineBusy("no")
    busy.retry_after_s = 30.0
    one = taken(replicas)
    replicas.done(one, busy, answered=False)
    assert one.rests_until == clock.now + 30
    for _ in range(30):
        replicas.done(taken(replicas), EngineError("no"), answered=False)
    assert one.rests_until == clock.now + LONGEST_REST_S


def test_where_all_rest_one_is_asked_all_the_same() -> None:
    replicas, clock = pool(2)
    for one in (taken(replicas), taken(replicas)):
        replicas.done(one, EngineError("no"), answered=False)
        clock.now += 0.1
    assert taken(replicas).rests_until < clock.now + 1


def test_a_request_that_was_called_off_says_nothing_about_its_replica() -> None:
    replicas, _ = pool(1)
    for error in (asyncio.CancelledError(), GeneratorExit(), SettingsError("x")):
        one = taken(replicas)
        replicas.done(one, error, answered=False)
        assert one.n_failures == one.n_outstanding == 0


def test_counts_hold_with_many_threads() -> None:
    replicas, _ = pool(3)

    def work() -> None:
        for n in range(300):
            one = taken(replicas)
            replicas.done(one, EngineError("x") if n % 7 == 0 else None, answered=n % 7 != 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.n_outstanding for one in replicas.replicas] == [0, 0, 0]


def asked(llm: Any, way: str) -> str:
    if way == "invoke":
        return str(llm.invoke("Hi"))
    if way == "stream":
        return "".join(llm.stream("Hi"))

    async def both() -> str:
        if way == "ainvoke":
            return str(await llm.ainvoke("Hi"))
        return "".join([piece async for piece in llm.astream("Hi")])

    return asyncio.run(both())


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_when_one_fails_the_next_is_asked(way: str) -> None:
    with faulty(answer(503)) as bad, faulty(DONE) as good:
        llm = init_llm([f"tgi:{bad.url}", f"tgi:{good.url}"])
        for _ in range(4):
            assert asked(llm, way) == "All well"
        assert bad.n_posts == 1, "it rests after its first failure"
        assert good.n_posts == 4


def test_the_model_in_this_process_steps_in_and_the_reply_says_so() -> None:
    with faulty(answer(500)) as bad:
        llm: Any = init_llm([f"tgi:{bad.url}", "bundled", "tgi:http://127.0.0.1:9"])
        replies = [grounded_chain(llm).invoke(ASK) for _ in range(3)]
        assert {reply["guarantee"] for reply in replies} == {"enforced"}
        assert all(isinstance(reply["score"], float) for reply in replies)
        result = llm.generate(["Hi"], max_new_tokens=2)
        assert result.generations[0][0].generation_info["replica"] == "bundled"
        assert answer_chain(llm).batch([ASK] * 3) == [replies[0]["answer"]] * 3
        llm.close()


def test_when_all_fail_the_error_names_them() -> None:
    with faulty(answer(503)) as first, faulty(answer(502)) as second:
        llm = init_llm([f"tgi:{first.url}", f"tgi:{second.url}"])
        with pytest.raises(EngineError) as caught:
            llm.invoke("Hi")
        assert first.n_posts == second.n_posts == 1
        assert f"tgi:{first.url}" in str(caught.value.__notes__)


def test_once_text_is_out_nobody_else_goes_on() -> None:
    with faulty(stream(token("Half"), end="cut")) as first, faulty(stream(token("Half"), end="cut")) as second:
        llm = init_llm([f"tgi:{first.url}", f"tgi:{second.url}"])
        pieces: list[str] = []
        with pytest.raises(EngineError):
            pieces.extend(llm.stream("Hi"))
        assert pieces == ["Half"]
        assert first.n_posts + second.n_posts == 1


def test_input_that_cannot_be_used_is_not_sent_around() -> None:
    with faulty(answer(400)) as first, faulty(answer(400)) as second:
        llm = init_llm([f"tgi:{first.url}", f"tgi:{second.url}"])
        with pytest.raises(BackendRejected):
            llm.invoke("Hi")
        assert first.n_posts + second.n_posts == 1


def test_requests_that_come_together_are_spread() -> None:
    with faulty(DONE) as first, faulty(DONE) as second:
        llm = init_llm([f"tgi:{first.url}", f"tgi:{second.url}"])

        async def many() -> list[str]:
            return list(await llm.abatch(["Hi"] * 20))

        assert asyncio.run(many()) == ["All well"] * 20
        assert first.n_posts + second.n_posts == 20
        assert min(first.n_posts, second.n_posts) >= 5


def test_a_list_with_nothing_or_nonsense_in_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="empty"):
        init_llm([])
    with pytest.raises(SettingsError, match="'gpt'"):
        init_llm(["bundled", "gpt:4"])
    with pytest.raises(SettingsError, match="3"):
        init_llm([3])  # type: ignore[list-item]


def test_secrets_stay_out_of_what_names_a_replica() -> None:
    llm = init_llm(["tgi:http://ann:hunter2@127.0.0.1:9", "tgi:http://127.0.0.1:9"])
    with pytest.raises(BackendUnreachable) as caught:
        llm.invoke("Hi")
    assert "hunter2" not in str(caught.value.__notes__) + str(caught.value) + repr(llm) + str(llm)
