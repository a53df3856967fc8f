"""What the tests run in the processes of a group."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from dataclasses import replace

import torch
import torch.distributed as dist

from assay.measure.communication import count_communication
from methods.oneflow.actor import ActorGraph
from methods.oneflow.boxing import box, reshard
from methods.oneflow.runtime import Ranks, next_inputs, run_step, train
from methods.oneflow.sbp import P_MAX, B, P, S, to_local
from methods.oneflow.threads import receiver, run, sender

ONE_DIMENSION = (S(0), S(1), B, P, P_MAX)


def share(tensor, sbp, ranks, rank):
    """A valid part of a partial value that differs by rank, or the part that `to_local` gives."""
    if rank not in ranks:
        return None
    place = ranks.index(rank)
    if sbp == P:
        return tensor * (place + 1) / sum(range(1, len(ranks) + 1))
    if sbp == P_MAX:
        return tensor - float(place != len(ranks) // 2)
    return to_local(tensor, (sbp,), (len(ranks),))[place]


def box_all(rank, size, shape, groups):
    """{(groups, from, to): (this rank's result, bytes that it sent)}."""
    tensor = torch.arange(float(torch.Size(shape).numel()), dtype=torch.float64).view(shape)
    found = {}
    for (p1, p2), source, target in itertools.product(groups, ONE_DIMENSION, ONE_DIMENSION):
        if {source, target} == {P, P_MAX}:
            continue
        with count_communication() as counter:
            out = box(share(tensor, source, p1, rank), shape, source, target, p1, p2, tensor)
        found[p1, p2, source, target] = out, counter.sent_bytes
    return found


def reshard_all(rank, size, shape, mesh, pairs):
    tensor = torch.arange(float(torch.Size(shape).numel())).view(shape)
    found = {}
    for source, target in pairs:
        with count_communication() as counter:
            out = reshard(to_local(tensor, source, mesh)[rank], shape, source, target, mesh)
        found[source, target] = out, counter.sent_bytes
    return found


def watch(graph):
    """Counts, as the actors act, the most batches that each of them has begun and not all of its readers have ended.

    Independent of the runtime's own registers and credits.
    """
    begun, ended, most, lock = Counter(), Counter(), Counter(), threading.Lock()

    def watched(spec):
        readers = {edge.consumer for edge in graph.outputs(spec.name)}

        def act(*values, **memory):
            with lock:
                begun[spec.name] += 1
                if readers:
                    in_flight = begun[spec.name] - min(ended[reader] for reader in readers)
                    most[spec.name] = max(most[spec.name], in_flight)
            value = spec.act(*values, **memory)
            with lock:
                ended[spec.name] += 1
            return value

        return replace(spec, act=act)

    graph.actors = {name: watched(spec) for name, spec in graph.actors.items()}
    return most


def actors_across(rank, size, items):
    """Rank 0 makes numbers, rank 1 squares them; others do nothing. Returns the most in flight, and the results."""
    graph = ActorGraph()
    if rank == 0:
        graph.actor("source", lambda i: torch.tensor([float(i)]), registers=2)
        graph.actor("send", sender(1), ["source"], registers=1)
    elif rank == 1:
        graph.actor("receive", receiver(0), registers=2, memory=lambda: torch.empty(1))
        graph.actor("square", lambda x: float(x**2), ["receive"])
    if rank > 1:
        return None
    most = watch(graph)
    outcome = run(graph, items)
    return outcome.results["square"] if rank else most["source"]


def boxing_and_actors(rank, size, boxing, resharding, items):
    """Several checks in one start of processes."""
    return box_all(rank, size, *boxing), reshard_all(rank, size, *resharding), actors_across(rank, size, items)


def train_plans(rank, size, cases, given, steps):
    """name -> (losses, weights, bytes that this rank sent in a step), for each case."""
    found = {}
    for case, inputs in zip(cases, given, strict=True):
        plan = case.plan(inputs["x"].element_size())
        engine = Ranks(plan.mesh)
        held = {name: engine.place(tensor, plan.sbp(name)) for name, tensor in inputs.items()}
        dist.barrier()
        with count_communication() as counter:
            next_inputs(plan, engine, held, run_step(plan, engine, held))
        found[case.name] = (*train(plan, engine, inputs, steps), counter.sent_bytes)
    return found
