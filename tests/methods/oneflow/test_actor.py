"""Actors: credits bound what is in flight, nothing deadlocks but what must, and copies overlap with computing."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest
import torch

from methods.oneflow.actor import ActorGraph, DeadlockError
from methods.oneflow.baselines import queue_pipeline, sequential
from methods.oneflow.simulation import cycle_graph, period, pipeline, random_graph, simulate, skip_graph, stage_chain
from methods.oneflow.threads import run
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
    begun, behind, all_begun = [], [], threading.Event()

    def begin(i):
        begun.append(i)
        if len(begun) == 300:
            all_begun.set()
        return i

    def slow(i):
        assert all_begun.wait(200), "the first stage waits for the second"
        behind.append(len(begun) - i)
        return i

    assert queue_pipeline([begin, slow], range(300)) == list(range(300))
    assert max(behind) == 300


@pytest.mark.parametrize("runtime", [run, simulate])
def test_a_cycle_runs_with_a_token_and_is_refused_without(runtime):
    assert runtime(cycle_graph(0), 5).results["out"] == [0, 1, 3, 6, 10]
    assert runtime(cycle_graph(100), 3).results["out"] == [100, 101, 103]
    assert runtime(cycle_graph(0), 0).results["out"] == []
    with pytest.raises(DeadlockError, match=r"the cycle .*sum -> delay.* has no initial token"):
        runtime(cycle_graph(), 5)


def test_two_tokens_need_two_registers():
    assert run(cycle_graph(0, 0, registers=2), 4).results["out"] == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="2 tokens from delay, which has 1 registers"):
        cycle_graph(0, 0)


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
    with pytest.raises(ValueError, match="registers must be at least 1; got 0"):
        graph.actor("none", lambda i: i, registers=0)
    with pytest.raises(ValueError, match="there is no actor 'ghost'"):
        graph.actor("reader", lambda x: x, ["ghost"])
    ring = ActorGraph()
    ring.actor("a", lambda x: x)
    ring.feedback("a", "a", [1])
    with pytest.raises(ValueError, match="no source leads to a"):
        run(ring, 1)


@pytest.mark.parametrize("runtime", [run, simulate])
@pytest.mark.parametrize("batches", [-1, 2.5])
def test_a_number_of_batches_that_is_none_is_refused(runtime, batches):
    with pytest.raises((ValueError, TypeError), match=rf"batches must be .*; got {batches}"):
        runtime(pipeline([1, 1], 1), batches)


def test_what_is_refused_leaves_the_graph_as_it_was():
    graph = ActorGraph()
    graph.actor("source", lambda i: i)
    graph.actor("buffer", lambda i, out: None, ["source"], memory=list)
    refused = [
        lambda: graph.actor("reader", lambda x: x, ["source", "ghost"]),
        lambda: graph.actor("self", lambda x: x, ["self"]),
        lambda: graph.actor("source", lambda i: i),
        lambda: graph.feedback("ghost", "source"),
        lambda: graph.feedback("source", "source", [1, 2, 3]),
        lambda: graph.feedback("buffer", "source", [[]]),
    ]
    for call in refused:
        with pytest.raises(ValueError, match=r"ghost|already|own input|tokens"):
            call()
    assert list(graph.actors) == ["source", "buffer"]
    assert [(edge.producer, edge.consumer) for edge in graph.edges] == [("source", "buffer")]
    assert run(graph, 3).acts == {"source": 3, "buffer": 3}


PASSED_ON = {
    "the buffer": lambda x: x,
    "a view of it": lambda x: x[:1],
    "in a tuple": lambda x: (x, 0),
    "in a dict": lambda x: {"x": x},
}


@pytest.mark.parametrize("runtime", [run, simulate])
@pytest.mark.parametrize("way", PASSED_ON)
def test_a_buffer_that_is_passed_on_is_not_written_over(runtime, way):
    """`late` reads what `pass` hands on when the source has long filled its one register again."""
    graph = ActorGraph()
    graph.actor("source", lambda i, out: out.fill_(i), registers=1, memory=lambda: torch.zeros(2), seconds=1)
    graph.actor("pass", PASSED_ON[way], ["source"], registers=4, seconds=1)
    graph.actor("late", lambda value: time.sleep(1e-3) or str(value), ["pass"], registers=1, seconds=9)
    graph.actor("kept", PASSED_ON[way], ["source"], registers=4, seconds=1)
    expected = [PASSED_ON[way](torch.full((2,), float(i))) for i in range(6)]
    results = runtime(graph, 6).results
    assert results["late"] == [str(value) for value in expected]
    assert [str(value) for value in results["kept"]] == [str(value) for value in expected]


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


def test_threads_are_never_faster_than_the_theory_and_registers_save_time():
    """Sleeping stages; the least of three runs each, for others use this machine too."""
    unit = 0.01
    stages = [lambda item, units=units: time.sleep(units * unit) or item for units in (1, 3, 2)]

    def one_by_one():
        start = time.perf_counter()
        assert sequential(stages, range(10)) == list(range(10))
        return time.perf_counter() - start

    def actors(registers):
        return run(stage_chain(stages, registers), 10).seconds

    times = [(one_by_one(), actors(1), actors(2)) for _ in range(3)]
    sequentially, one, two = (min(column) / unit for column in zip(*times, strict=True))
    assert (sequentially >= 60, one >= 51, two >= 33) == (True, True, True)
    assert two < one < sequentially
