"""Actors: credits bound what is in flight, nothing deadlocks but what must, and copies overlap with computing."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from methods.oneflow.actor import ActorGraph, DeadlockError, run
from methods.oneflow.baselines import queue_pipeline, sequential
from methods.oneflow.experiments import random_graph
from methods.oneflow.simulation import period, pipeline, simulate, skip_graph
from tests.methods.oneflow.in_ranks import watch


@pytest.mark.parametrize(("registers", "units"), [(1, 51), (2, 33), (3, 33)])
def test_ten_batches_through_stages_of_1_3_and_2_units(registers, units):
    assert simulate(pipeline([1, 3, 2], registers), 10).seconds == units


def test_the_time_between_batches_is_that_of_the_slowest_stage_or_with_one_register_of_two_neighbours():
    rng = random.Random(0)
    for _ in range(100):
        stages = [rng.randint(1, 9) for _ in range(rng.randint(2, 5))]
        for registers in (1, 2, 3):
            long, short = (simulate(pipeline(stages, registers), n).seconds for n in (60, 40))
            assert (long - short) / 20 == period(stages, registers)


@pytest.mark.parametrize(("registers", "units"), [(1, 8), (2, 4), (3, 8 / 3), (4, 2)])
def test_an_edge_that_skips_actors_costs_registers(registers, units):
    long, short = (simulate(skip_graph(registers), n).seconds for n in (120, 60))
    assert (long - short) / 60 == pytest.approx(units)


def test_400_random_graphs_end_on_threads_with_the_results_of_the_simulation():
    for seed in range(400):
        graph, simulated = random_graph(seed), simulate(random_graph(seed), 5)
        most = watch(graph)
        threads = run(graph, 5)
        assert threads.results == simulated.results, seed
        assert set(threads.acts.values()) == {5}, seed
        assert all(most[name] <= spec.registers for name, spec in graph.actors.items()), seed


def test_a_producer_ten_times_as_fast_is_never_more_than_its_registers_ahead():
    for registers in (1, 2, 3):
        graph = ActorGraph()
        graph.actor("fast", lambda i: i, registers=registers, seconds=1)
        graph.actor("slow", lambda i: i, ["fast"], registers=1, seconds=10)
        most = watch(graph)
        assert simulate(graph, 1000).seconds == (10 * 1000 + 1 if registers > 1 else 11 * 1000)
        assert most["fast"] == registers
        most = watch(graph)
        run(graph, 1000)
        assert 1 <= most["fast"] <= registers


def test_unbounded_queues_fill_up_where_registers_do_not():
    begun, behind = [], []

    def slow(i):
        time.sleep(1e-4)
        behind.append(len(begun) - i)
        return i

    assert queue_pipeline([lambda i: begun.append(i) or i, slow], range(300)) == list(range(300))
    assert max(behind) > 100


def loop(*tokens, registers=1):
    graph = ActorGraph()
    graph.actor("source", lambda i: i, registers=registers)
    graph.actor("sum", lambda x, total: x + total, ["source"], registers=registers)
    graph.actor("delay", lambda total: total, ["sum"], registers=registers)
    graph.actor("out", lambda total: total, ["sum"])
    graph.feedback("delay", "sum", tokens)
    return graph


@pytest.mark.parametrize("runtime", [run, simulate])
def test_a_cycle_runs_with_a_token_and_is_refused_without(runtime):
    assert runtime(loop(0), 5).results["out"] == [0, 1, 3, 6, 10]
    assert runtime(loop(100), 3).results["out"] == [100, 101, 103]
    assert runtime(loop(0), 0).results["out"] == []
    with pytest.raises(DeadlockError, match=r"the cycle .*sum -> delay.* has no initial token"):
        runtime(loop(), 5)


def test_two_tokens_need_two_registers():
    assert run(loop(0, 0, registers=2), 4).results["out"] == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="2 tokens from delay, which has 1 registers"):
        loop(0, 0)


@pytest.mark.parametrize("runtime", [run, simulate])
def test_an_actor_may_read_the_same_producer_twice(runtime):
    graph = ActorGraph()
    graph.actor("a", lambda i: i, registers=1)
    graph.actor("square", lambda x, y: x * y, ["a", "a"])
    assert runtime(graph, 5).results["square"] == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("runtime", [run, simulate])
def test_a_token_may_be_a_list(runtime):
    graph = ActorGraph()
    graph.actor("source", lambda i: i)
    graph.actor("all", lambda i, seen: [*seen, i], ["source"])
    graph.actor("out", lambda seen: seen, ["all"])
    graph.feedback("all", "all", [[7]])
    assert runtime(graph, 3).results["out"] == [[7, 0], [7, 0, 1], [7, 0, 1, 2]]


@pytest.mark.parametrize("runtime", [run, simulate])
def test_buffers_that_are_used_again_are_no_results_and_no_token_takes_their_place(runtime):
    def fill(i, out):
        out[0] = i

    graph = ActorGraph()
    graph.actor("source", lambda i: i)
    graph.actor("fill", fill, ["source"], memory=lambda: [None])
    outcome = runtime(graph, 5)
    assert outcome.acts["fill"] == 5
    assert outcome.results == {}
    with pytest.raises(ValueError, match="tokens from fill, which has `memory`"):
        graph.feedback("fill", "source", [[0]])


def test_graphs_that_would_not_end_or_begin_are_refused():
    graph = ActorGraph()
    with pytest.raises(ValueError, match="needs at least 1"):
        graph.actor("none", lambda i: i, registers=0)
    with pytest.raises(ValueError, match="there is no actor 'ghost'"):
        graph.actor("reader", lambda x: x, ["ghost"])
    ring = ActorGraph()
    ring.actor("a", lambda x: x)
    ring.feedback("a", "a", [1])
    with pytest.raises(ValueError, match="no source leads to a"):
        run(ring, 1)


def test_an_actor_that_hangs_is_named_and_one_that_fails_is_heard():
    release = threading.Event()
    graph = ActorGraph()
    graph.actor("stuck", lambda i: release.wait(5))
    graph.actor("reader", lambda x: x, ["stuck"])
    with pytest.raises(DeadlockError, match=r"no actor acted for 0\.2 s; waiting: stuck"):
        run(graph, 1, patience=0.2)
    release.set()
    broken = ActorGraph()
    broken.actor("source", lambda i: i)
    broken.actor("fails", lambda i: 1 // (i - 3), ["source"])
    with pytest.raises(ZeroDivisionError):
        run(broken, 10)


def test_buffers_are_made_once_and_used_again():
    made = itertools.count()
    graph = ActorGraph()

    def fill(i, out):
        out[0] = i

    graph.actor("source", fill, registers=2, memory=lambda: [next(made)])
    graph.actor("reader", lambda x: (id(x), x[0]), ["source"])
    seen = run(graph, 50).results["reader"]
    assert [value for _, value in seen] == list(range(50))
    assert len({buffer for buffer, _ in seen}) == 2
    assert next(made) == 2


def test_actors_of_one_device_queue_take_turns():
    def pair(queue):
        graph = ActorGraph()
        graph.actor("a", lambda i: i, queue=queue, seconds=2)
        graph.actor("b", lambda i: i, ["a"], queue=queue, seconds=2)
        return graph

    assert simulate(pair(None), 10).seconds == 2 + 10 * 2
    assert simulate(pair("one"), 10).seconds == 10 * 4
    assert run(pair("one"), 10).results["b"] == list(range(10))


def test_threads_keep_the_pace_of_the_theory():
    """Sleeping stages: the least of three runs, for others use this machine too."""
    unit = 0.01

    def stage(units):
        return lambda item: time.sleep(units * unit) or item

    def actors(registers):
        graph, last = ActorGraph(), []
        for i, units in enumerate((1, 3, 2)):
            last = [graph.actor(f"stage{i}", stage(units), last, registers=registers)]
        return min(run(graph, 10).seconds for _ in range(3)) / unit

    start = time.perf_counter()
    assert sequential([stage(1), stage(3), stage(2)], range(2)) == [0, 1]
    assert time.perf_counter() - start >= 12 * unit
    assert actors(1) == pytest.approx(51, rel=0.15)
    assert actors(2) == pytest.approx(33, rel=0.15)
