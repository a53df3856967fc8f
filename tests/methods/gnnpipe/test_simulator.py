"""The simulator against closed forms, against itself in special cases, and against real ranks on a real wire."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from assay.network import Network, network_reason
from methods.gnnpipe.replay import replay_graph_parallel, replay_pipeline
from methods.gnnpipe.simulator import EpochTime, crossover, graph_parallel_epoch, hybrid_epoch, pipeline_epoch

AT_ONCE = Network(math.inf)
SLOW = Network(100e6)
needs_network = pytest.mark.skipif(network_reason(SLOW) is not None, reason=str(network_reason(SLOW)))


def parts(epoch: EpochTime) -> list[float]:
    return [epoch.compute_s, epoch.bubble_s, epoch.communication_s, epoch.imbalance_s]


def both_ways(sent):
    """The exchanges of an undirected graph: gradients go where the rows went."""
    return np.stack([sent, sent])


def random_exchange(rng, *shape):
    """(*shape, W, W) bytes between the ways, where the last of `shape` is W; nothing from a way to itself."""
    sent = rng.integers(0, 1_000_000, (*shape, shape[-1])).astype(float)
    return sent * (1 - np.eye(shape[-1]))


@pytest.mark.parametrize(("chunks", "stages"), [(1, 1), (1, 4), (5, 1), (3, 8), (32, 8)])
def test_unit_chunks_without_transfer_take_a_tick_for_each_chunk_and_each_further_stage(chunks, stages):
    unit = np.ones((stages, chunks))
    epoch = pipeline_epoch(unit, unit, np.zeros((stages - 1, chunks)), AT_ONCE)
    assert epoch.seconds == 2 * (chunks + stages - 1)
    assert parts(epoch) == [2 * chunks, 2 * (stages - 1), 0, 0]


def test_the_bubble_of_eight_stages_and_32_chunks_is_17_9_percent():
    unit = np.ones((8, 32))
    epoch = pipeline_epoch(unit, unit, np.zeros((7, 32)), AT_ONCE)
    assert round(100 * epoch.bubble_s / epoch.seconds, 1) == 17.9


def test_transfers_shorter_than_a_tick_delay_only_the_filling_and_the_draining():
    stages, chunks, transfer = 4, 6, 0.25
    unit = np.ones((stages, chunks))
    epoch = pipeline_epoch(unit, unit, np.full((stages - 1, chunks), 1000), Network(8 * 1000 / transfer))
    assert epoch.seconds == pytest.approx(2 * (chunks + (stages - 1) * (1 + transfer)))


def test_only_transfers_that_nothing_hides_count_as_communication():
    # a stage waits 1.5 s at its start and its end, or 3 s between its passes; 1 s of them a message is under way
    unit = np.ones((2, 4))
    epoch = pipeline_epoch(unit, unit, np.full((1, 4), 1000), Network(8 * 1000 / 0.5))
    assert epoch.seconds == 2 * 4 + 3
    assert parts(epoch) == [8, 2, 1, 0]


def test_transfers_longer_than_a_tick_set_the_pace():
    stages, chunks, transfer = 3, 10, 4.0
    unit = np.ones((stages, chunks))
    epoch = pipeline_epoch(unit, unit, np.full((stages - 1, chunks), 1000), Network(8 * 1000 / transfer))
    assert epoch.seconds == pytest.approx(2 * (chunks * transfer + (stages - 2) * transfer + stages))
    assert epoch.communication_s > 0.5 * epoch.seconds


def test_one_slow_stage_sets_the_pace_and_the_others_wait_for_it():
    forward = np.ones((3, 20))
    forward[1] = 3.0
    epoch = pipeline_epoch(forward, forward, np.zeros((2, 20)), AT_ONCE)
    assert epoch.seconds == 2 * (20 * 3 + 2)
    assert epoch.bubble_s == pytest.approx(
        4
    )  # 2/20 of the 40 s that a fast stage computes; all that the slow one waits
    assert epoch.imbalance_s == pytest.approx((80 + 0 + 80) / 3)


def test_the_backward_pass_takes_chunks_in_reverse_order():
    # the last stage's slow chunk comes first and the first stage's comes last: neither hides behind the other
    backward = np.array([[4.0, 1.0, 1.0], [1.0, 1.0, 4.0]])
    epoch = pipeline_epoch(np.zeros((2, 3)), backward, np.zeros((1, 3)), AT_ONCE)
    assert epoch.seconds == 4 + 1 + 1 + 4


def test_graph_parallelism_with_equal_messages_is_the_formula():
    ways, layers, size, network = 5, 7, 123_456.0, Network(1e9, 20e-6)
    rng = np.random.default_rng(0)
    forward = np.tile(rng.uniform(0.001, 0.01, layers), (ways, 1))
    exchange = size * (1 - np.eye(ways)) * np.ones((layers, 1, 1))
    epoch = graph_parallel_epoch(forward, 2 * forward, both_ways(exchange), 0, network)
    wire = layers * (network.latency_s * (ways - 1) + 8 * size * (ways - 1) / network.bandwidth_bps)
    assert epoch.seconds == pytest.approx(3 * forward[0].sum() + 2 * wire)
    assert parts(epoch) == pytest.approx([3 * forward[0].sum(), 0, 2 * wire, 0], abs=1e-9)


def test_unequal_messages_cost_little_more_than_the_busiest_nic():
    for seed, ways in enumerate((3, 8, 32)):
        exchange = random_exchange(np.random.default_rng(seed), 1, ways)
        received, sent = exchange[0].sum(0), exchange[0].sum(1)
        nothing = np.zeros((ways, 1))
        epoch = graph_parallel_epoch(nothing, nothing, both_ways(exchange), 0, Network(8.0))
        assert (1 - 1e-9) * 2 * max(*received, *sent) <= epoch.seconds < 1.25 * 2 * max(*received, *sent)


def test_the_backward_exchange_is_that_of_the_gradients():
    there = np.array([[[0, 0, 900.0], [0, 0, 900.0], [0, 0, 0]]])  # two send to one: it receives one by one
    back = np.array([[[0, 0, 0], [0, 0, 0], [900.0, 900.0, 0]]])
    network, nothing = Network(8 * 900), np.zeros((3, 1))
    at_work = graph_parallel_epoch(nothing, np.array([[0], [0], [5.0]]), np.stack([there, back]), 0, network)
    assert at_work.seconds == 2 + 5  # backward it sends, and needs nothing before it computes
    at_rest = graph_parallel_epoch(nothing, np.array([[0], [0], [5.0]]), both_ways(there), 0, network)
    assert at_rest.seconds == 2 + 2 + 5


def test_messages_to_a_stage_and_to_a_way_leave_by_the_same_nic():
    nothing, borders, exchange = np.zeros((2, 2, 2)), np.zeros((1, 2, 2)), np.zeros((2, 2, 2, 2, 2))
    borders[0, 0] = 1000  # way 0 to the next stage, chunk 0 and then chunk 1
    exchange[0, 0, 1, 0, 1] = exchange[1, 0, 1, 1, 0] = 1000  # way 0 to way 1, for chunk 1, while chunk 0 leaves
    epoch = hybrid_epoch(nothing, nothing, borders, exchange, np.ones(2, int), np.zeros(2), Network(8 * 1000))
    assert epoch.seconds == 3 + 2  # all three there; the way back needs way 0 for no more than its two gradients


@pytest.mark.parametrize("ways", [1, 2, 4])
def test_the_weights_go_round_the_ring(ways):
    network, nothing = Network(8e6, 1e-3), np.zeros((ways, 1))
    epoch = graph_parallel_epoch(nothing, nothing, np.zeros((2, 1, ways, ways)), 4000, network)
    assert epoch.seconds == pytest.approx(2 * (ways - 1) * (1e-3 + 4000 / ways * 8 / 8e6))


def random_case(seed, stages, ways, chunks):
    rng = np.random.default_rng(seed)
    forward = rng.uniform(0.001, 0.02, (stages, ways, chunks))
    return {
        "forward": forward,
        "backward": 2 * forward,
        "border_bytes": rng.integers(1, 300_000, (stages - 1, ways, chunks)),
        "exchange": random_exchange(rng, 2, stages, chunks, ways),
        "layers": rng.integers(1, 5, stages),
        "weight_bytes": rng.integers(0, 100_000, stages),
    }


def test_a_hybrid_of_one_way_is_the_pipeline():
    case = random_case(0, stages=4, ways=1, chunks=6)
    network = Network(1e9, 20e-6)
    hybrid = hybrid_epoch(**{**case, "layers": np.full(4, 3)}, network=network)
    pipeline = pipeline_epoch(case["forward"][:, 0], case["backward"][:, 0], case["border_bytes"][:, 0], network)
    assert hybrid.seconds == pytest.approx(pipeline.seconds)
    assert parts(hybrid) == pytest.approx(parts(pipeline))


def test_a_hybrid_of_one_stage_and_one_chunk_is_graph_parallelism():
    case = random_case(1, stages=1, ways=4, chunks=1)
    network, layers = Network(1e9, 20e-6), 3
    hybrid = hybrid_epoch(**{**case, "layers": np.array([layers])}, network=network)
    of_a_layer = {name: np.repeat(case[name][0] / layers, layers, axis=1) for name in ("forward", "backward")}
    exchange = np.repeat(case["exchange"][:, 0] / layers, layers, axis=1)
    graph = graph_parallel_epoch(**of_a_layer, exchange=exchange, weight_bytes=case["weight_bytes"][0], network=network)
    assert hybrid == graph


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_sum_to_the_epoch_and_no_part_is_negative(seed):
    case = random_case(seed, stages=3, ways=4, chunks=5)
    epoch = hybrid_epoch(**case, network=Network(10.0 ** (6 + seed), 20e-6))
    assert sum(parts(epoch)) == pytest.approx(epoch.seconds, rel=1e-9)
    assert min(parts(epoch)) >= -1e-12
    assert epoch.compute_s == pytest.approx(3 * case["forward"].sum() / 12)


@pytest.mark.parametrize("seed", range(3))
def test_a_faster_wire_never_makes_a_pipeline_slower(seed):
    case = random_case(seed, stages=4, ways=1, chunks=8)
    arrays = case["forward"][:, 0], case["backward"][:, 0], case["border_bytes"][:, 0]
    times = [pipeline_epoch(*arrays, Network(10.0**power, 20e-6)).seconds for power in np.arange(6, 12, 0.5)]
    assert times == sorted(times, reverse=True)
    assert times[0] > 2 * times[-1]


def test_a_faster_wire_makes_exchanges_faster_but_for_the_order_in_which_messages_meet():
    case = random_case(0, stages=2, ways=4, chunks=4)
    times = [hybrid_epoch(**case, network=Network(10.0**power, 20e-6)).seconds for power in np.arange(6, 12, 0.5)]
    assert all(slower >= 0.98 * faster for slower, faster in itertools.pairwise(times))
    assert times[0] > 50 * times[-1]


def test_parts_that_miss_the_epoch_are_refused():
    EpochTime(1.0, 0.5, 0.2, 0.2, 0.06)
    with pytest.raises(ArithmeticError, match=r"sum to 0\.9 s"):
        EpochTime(1.0, 0.5, 0.2, 0.1, 0.1)


def test_shapes_that_do_not_fit_are_named():
    case = random_case(0, stages=2, ways=2, chunks=2)
    with pytest.raises(ValueError, match=r"exchange has shape \(2, 2, 2\); .* must have \(2, 2, 2, 2, 2\)"):
        hybrid_epoch(**{**case, "exchange": np.zeros((2, 2, 2))}, network=SLOW)


def test_the_crossover_is_where_both_take_equally_long():
    bandwidths = [1e9, 1e10, 1e11]
    graph = [2 + 1e10 / b for b in bandwidths]
    assert crossover(bandwidths, graph, [3.0] * 3) == pytest.approx(1e10)
    assert crossover(bandwidths, [9.0, 3.0, 1.0], [3.0, 3.0, 3.0]) == 1e10
    assert crossover(bandwidths, [4.0, 1.0, 1.0], [2.0, 2.0, 2.0]) == pytest.approx(10**9.5)
    assert crossover(bandwidths, [4.0, 3.5, 3.0], [2.0, 2.0, 2.0]) is None


def fastest(replay, expected):
    """s of the first of ten replays that a busy machine has not delayed, or of the fastest; none may be too fast."""
    seconds = math.inf
    for _ in range(10):
        seconds = min(seconds, replay())
        if seconds < 1.1 * expected:
            break
    assert seconds > 0.9 * expected
    return seconds


@needs_network
@pytest.mark.parametrize("size", [20_000, 400_000], ids=["computing sets the pace", "the wire sets the pace"])
def test_a_pipeline_of_real_ranks_takes_the_simulated_time(size):
    forward = np.random.default_rng(0).uniform(0.01, 0.03, (3, 6))
    border = np.full((2, 6), size)
    simulated = pipeline_epoch(forward, 2 * forward, border, SLOW.payload).seconds
    assert fastest(lambda: replay_pipeline(forward, 2 * forward, border, SLOW), simulated) < 1.1 * simulated


@needs_network
@pytest.mark.parametrize("ways", [2, 4])
def test_real_ranks_that_exchange_before_each_layer_take_the_simulated_time(ways):
    rng = np.random.default_rng(1)
    forward = rng.uniform(0.005, 0.02, (ways, 4))
    exchange = rng.integers(150_000, 250_000, (4, ways, ways)) * (1 - np.eye(ways))
    case = forward, 2 * forward, both_ways(exchange)
    simulated = graph_parallel_epoch(*case, 0, SLOW.payload)
    assert fastest(lambda: replay_graph_parallel(*case, SLOW), simulated.seconds) < 1.1 * simulated.seconds
    assert simulated.communication_s > 0.3 * simulated.seconds
