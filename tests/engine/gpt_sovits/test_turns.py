"""Who computes next: newcomers as long as nobody falls silent for it, and in overload whoever came first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from appliance.engine.gpt_sovits.turns import (
    PATIENCE_S,
    PREFILL,
    SOUND,
    STEP,
    Listener,
    Pace,
    Turns,
    Work,
    choose,
)
from appliance.errors import Cancelled

STEP_WORK = Work(STEP)


def seconds(work: Work) -> float:
    """For tests: the amount is the time."""
    return work.amount


def waiting(arrived: float, unit: float, ends: float | None = None, need: float = 0.0) -> Listener:
    return Listener(arrived, ends=ends, needs=lambda: (Work(SOUND, need),), wanted=Work(STEP, unit))


def test_newcomers_go_in_order_of_arrival() -> None:
    late, early = waiting(2.0, 0.1), waiting(1.0, 0.1)
    assert choose(3.0, [late, early], seconds) is early


def test_a_newcomer_goes_first_only_while_nobody_falls_silent_for_it() -> None:
    newcomer = waiting(1.0, 0.2)
    for ends, first in ((1.7, newcomer), (1.55, None)):  # the work may take a quarter longer than it did
        playing = waiting(0.0, 0.1, ends=ends, need=0.3)
        assert choose(1.0, [newcomer, playing], seconds) is (first or playing)


def test_what_all_listeners_still_need_counts_together() -> None:
    newcomer = waiting(1.0, 0.2)
    playing = [waiting(0.0, 0.1, ends=2.05, need=0.3) for _ in range(2)]
    assert choose(1.0, [newcomer, *playing], seconds) is newcomer
    playing.append(waiting(0.0, 0.1, ends=2.05, need=0.3))
    assert choose(1.0, [newcomer, *playing], seconds) in playing


def test_steps_are_made_for_all_listeners_at_once() -> None:
    newcomer = waiting(1.0, 0.2)
    playing = [waiting(0.0, 0.1, ends=2.05) for _ in range(3)]
    for kind, first in ((STEP, True), (SOUND, False)):
        for one in playing:
            one.needs = lambda kind=kind: (Work(kind, 0.3), Work(SOUND, 0.05))
        assert (choose(1.0, [newcomer, *playing], seconds) is newcomer) == first


def test_of_listeners_the_one_whose_next_part_has_to_be_begun_soonest_goes_first() -> None:
    soon, large = waiting(0.0, 0.1, ends=2.0, need=0.1), waiting(0.0, 0.1, ends=2.2, need=0.8)
    assert choose(1.0, [soon, large], seconds) is large


def test_who_does_not_fetch_its_sound_holds_nobody_up() -> None:
    away = waiting(0.0, 0.1, ends=0.5, need=0.3)
    away.wanted = None
    newcomer = waiting(1.0, 0.2)
    assert choose(1.0, [away, newcomer], seconds) is newcomer


def test_between_two_units_a_listener_keeps_its_place_for_a_moment() -> None:
    playing, newcomer = waiting(0.0, 0.1, ends=1.1, need=0.3), waiting(1.0, 0.2)
    playing.wanted, playing.rests = None, 1.0
    assert choose(1.001, [playing, newcomer], seconds) is playing
    assert choose(1.5, [playing, newcomer], seconds) is newcomer


def test_patience_has_an_end() -> None:
    playing, newcomer = waiting(0.0, 0.1, ends=9.0, need=0.5), waiting(9.0 - PATIENCE_S, 0.2)
    assert choose(8.9, [playing, newcomer], seconds) is playing
    assert choose(9.0, [playing, newcomer], seconds) is newcomer


# ---------------------------------------------------------------- a simulated machine

PARTS = (10, 10, 16, 24, 48, 96)
TOKEN_S = 0.04


@dataclass
class User:
    """Speaks `tokens` tokens; the work of the parts is what a two-core machine needed for v2 and twice that."""

    listener: Listener
    tokens: int
    cost: float  # 1: v2
    made: int = 0
    done: int = 0
    prompt_read: bool = False
    first: float = 0.0
    silence: float = 0.0
    part: int = field(default=0)

    @property
    def due(self) -> int:
        return min(self.tokens, self.done + PARTS[min(self.part, len(PARTS) - 1)])

    def sound(self) -> Work:
        return Work(SOUND, self.cost * (0.02 + 0.0023 * (2 * (self.due - self.done) + 16)))

    def ask(self) -> None:
        steps = max(0, self.due - self.made)
        self.listener.needs = lambda: (Work(STEP, 0.006 * steps), self.sound())
        if not self.prompt_read:
            self.listener.wanted = Work(PREFILL, 0.12)
        else:
            self.listener.wanted = Work(STEP, 0.006) if steps else self.sound()

    def compute(self, now: float) -> float:
        """One unit; returns when it is done."""
        assert self.listener.wanted is not None
        now += self.listener.wanted.amount
        if self.listener.wanted.kind == PREFILL:
            self.prompt_read = True
        elif self.made < self.due:
            self.made += 1
        else:
            self._deliver(now)
        return now

    def _deliver(self, now: float) -> None:
        if self.listener.ends is None:
            self.first = now - self.listener.arrived
        else:
            self.silence += max(0.0, now - self.listener.ends)
        self.listener.ends = max(now, self.listener.ends or 0.0) + TOKEN_S * (self.due - self.done)
        self.done, self.part = self.due, self.part + 1


def simulate(arrivals: list[float], tokens: int, cost: float = 1.0) -> list[User]:
    users = [User(Listener(arrived), tokens, cost) for arrived in arrivals]
    now = 0.0
    while busy := [user for user in users if user.done < user.tokens]:
        there = [user for user in busy if user.listener.arrived <= now]
        if not there:
            now = min(user.listener.arrived for user in busy)
            continue
        for user in there:
            user.ask()
        first = choose(now, [user.listener for user in there], seconds)
        now = next(user for user in there if user.listener is first).compute(now)
    return users


def test_two_who_can_be_served_in_time_hear_no_gap() -> None:
    for second in (0.0, 0.3, 1.0, 2.0):
        users = simulate([0.0, second], 150)
        assert all(user.silence < 0.05 for user in users)
        assert users[1].first < 1.0


def test_in_overload_nobody_stutters_and_who_came_last_waits() -> None:
    users = simulate([0.0, 0.0, 0.0, 0.0], 45)  # together 2.6 seconds of work for 1.8 seconds of playing
    firsts = [user.first for user in users]
    assert firsts == sorted(firsts) and firsts[0] < 0.3
    assert all(user.silence < 0.15 for user in users)


def test_nobody_waits_without_end_while_others_listen() -> None:
    users = simulate([0.0, 0.0, 0.0, 0.0], 300, cost=2.0)
    assert all(user.first < PATIENCE_S + 2.0 for user in users)


# ---------------------------------------------------------------- threads


def test_one_computes_at_a_time_and_all_get_there() -> None:
    turns, inside, most, done = Turns(), [], [], []

    def work(number: int) -> None:
        with turns.listener(threading.Event()) as one:
            for _ in range(20):
                with turns.turn(one, STEP_WORK):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
            done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(most) == 1 and sorted(done) == list(range(6))


def test_on_a_processor_of_its_own_each_kind_has_its_turns() -> None:
    turns, entered = Turns(is_apart=True), threading.Event()

    def sound() -> None:
        with turns.listener(threading.Event()) as other, turns.turn(other, Work(SOUND)):
            entered.set()

    with turns.listener(threading.Event()) as one, turns.turn(one, STEP_WORK):
        thread = threading.Thread(target=sound)
        thread.start()
        assert entered.wait(30)
    thread.join(30)


def test_who_is_alone_goes_on_in_its_turn_until_another_comes_or_it_is_cancelled() -> None:
    turns, cancelled, began = Turns(), threading.Event(), time.perf_counter()
    with turns.listener(cancelled) as one, turns.listener(threading.Event()) as other:
        with turns.turn(one, STEP_WORK):
            assert turns.goes_on(one) and turns.goes_on(one)
            time.sleep(0.03)
        assert 0.03 <= 3 * turns.pace.seconds(STEP_WORK) <= time.perf_counter() - began
        with turns.turn(one, STEP_WORK), turns.turn(other, STEP_WORK, lambda: True):
            assert not turns.goes_on(one)
    with turns.listener(cancelled) as one:
        cancelled.set()
        assert not turns.goes_on(one)


def test_who_is_cancelled_while_it_waits_leaves_and_a_failure_ends_the_turn() -> None:
    turns = Turns()
    with turns.listener(threading.Event()) as one, turns.listener(threading.Event()) as other:
        with turns.turn(one, STEP_WORK):
            other.cancelled.set()
            with pytest.raises(Cancelled), turns.turn(other, STEP_WORK):
                raise AssertionError("two at a time")
        with pytest.raises(ZeroDivisionError), turns.turn(one, STEP_WORK):
            raise ZeroDivisionError
        with turns.turn(one, STEP_WORK) as is_mine:
            assert is_mine
        with turns.turn(one, STEP_WORK, lambda: True) as is_mine:
            assert not is_mine


def test_the_pace_follows_what_was_measured() -> None:
    pace = Pace()
    assert pace.seconds(STEP_WORK) == 0.0
    pace.learn(Work(SOUND, 10.0, 1), 1.0)
    pace.learn(Work(SOUND, 10.0, 2), 3.0)
    assert pace.seconds(Work(SOUND, 20.0, 1)) == pytest.approx(2.0)
    for _ in range(50):
        pace.learn(Work(SOUND, 10.0, 1), 2.0)
    assert pace.seconds(Work(SOUND, 10.0, 1)) == pytest.approx(2.0, rel=1e-3)
