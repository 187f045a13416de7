import pytest

from fourcorners.engine.threads import LONGEST_PAUSE, ThreadGovernor, core_wait


class Machine:
    """Runs steps of 10 ms for a governor; with all threads each waits for its core the part ``share`` of the time."""

    def __init__(self, n_threads: int) -> None:
        self.now = self.waited = 0.0
        self.governor = ThreadGovernor(n_threads, lambda: self.waited)

    def run(self, seconds: float, share: float, share_with_fewer: float = 0.0) -> list[int]:
        seen = []
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            self.waited += 0.01 * (share if self.governor.n == self.governor.n_max else share_with_fewer)
            seen.append(self.governor.step(self.now, 0.01))
        return seen


def test_a_quiet_machine_gives_all_threads() -> None:
    assert set(Machine(2).run(60, share=0.05)) == {2}


def test_a_busy_machine_gives_one_within_a_tenth_of_a_second() -> None:
    assert Machine(2).run(0.1, share=0.4)[-1] == 1


def test_one_step_interrupted_for_a_moment_changes_nothing() -> None:
    machine = Machine(2)
    machine.waited = 0.005
    assert set(machine.run(1, share=0.0)) == {2}


def test_all_threads_come_back_when_the_others_are_gone() -> None:
    machine = Machine(2)
    machine.run(5, share=0.4)
    assert machine.run(10, share=0.0)[-1] == 2


def test_on_a_machine_that_stays_busy_it_tries_less_and_less_often() -> None:
    machine = Machine(2)
    with_all = machine.run(600, share=0.4).count(2)
    assert with_all * 0.01 < 600 * 0.05
    machine.run(LONGEST_PAUSE + 1, share=0.0)
    assert machine.governor.n == 2


def test_many_threads_become_fewer_step_by_step() -> None:
    machine = Machine(16)
    assert list(dict.fromkeys(machine.run(1, share=0.4, share_with_fewer=0.3))) == [16, 12, 9, 6, 4, 3, 2, 1]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_one_thread_stays_one(share: float) -> None:
    assert set(Machine(1).run(5, share=share)) == {1}


def test_this_system_tells_how_long_a_thread_waited() -> None:
    assert core_wait() >= 0
