"""Oneflow-Inc/oneflow at 25c8978: its costs of a boxing and its choice of a signature.

`ComputCopyCostBetweenTwoSbpParallel` (`core/framework/sbp_infer_util.cpp`), and the order in which
`SortSbpSignatureListByCopyCost` (`core/job/sbp_parallel.cpp`) with the order values of `Operator::InferSbpSignature`
puts the signatures of a matmul, were compiled and run. T is 64 bytes. The costs are those of eager mode; in graph mode
S -> P, and P -> P between other devices, cost the largest float, which means that there is no way.
"""

from __future__ import annotations

import itertools

import pytest

from methods.oneflow.boxing import table_bytes
from methods.oneflow.graph import Graph, matmul_chain
from methods.oneflow.ops import fetch, identity, matmul
from methods.oneflow.plan import greedy, released
from methods.oneflow.sbp import B, P, S

NAMES = {"S0": S(0), "S1": S(1), "B": B, "P": P}
# from each of S0, S1, B and P to each of them
SAME_4 = [[0, 48, 192, 2048], [48, 0, 192, 2048], [1, 1, 0, 2048], [192, 192, 384, 0]]
FROM_2_TO_3 = [[64, 64, 192, 1344], [64, 64, 192, 1344], [64, 64, 192, 1344], [128, 128, 256, 1408]]

# (a, b): how the matmul's inputs lie -> the signature that is chosen on 4 devices, by elements of a and b
CHOSEN = {
    (64, 64): """S0 S0: S0 B S0 | S0 S1: S0 B S0 | S0 B: S0 B S0 | S0 P: S0 B S0 | S1 S0: S1 S0 P | S1 S1: B S1 S1 |
        S1 B: S0 B S0 | S1 P: S1 S0 P | B S0: B S1 S1 | B S1: B S1 S1 | B B: B B B | B P: B P P | P S0: S1 S0 P |
        P S1: B S1 S1 | P B: P B P | P P: P B P""",
    (64, 4096): """S0 S0: S1 S0 P | S0 S1: B S1 S1 | S0 B: S0 B S0 | S0 P: B P P | S1 S0: S1 S0 P | S1 S1: B S1 S1 |
        S1 B: S0 B S0 | S1 P: B P P | B S0: B S1 S1 | B S1: B S1 S1 | B B: B B B | B P: B P P | P S0: S1 S0 P |
        P S1: B S1 S1 | P B: P B P | P P: B P P""",
    (4096, 64): """S0 S0: S0 B S0 | S0 S1: S0 B S0 | S0 B: S0 B S0 | S0 P: S0 B S0 | S1 S0: S1 S0 P | S1 S1: S1 S0 P |
        S1 B: S0 B S0 | S1 P: S1 S0 P | B S0: B S1 S1 | B S1: B S1 S1 | B B: B B B | B P: B P P | P S0: P B P |
        P S1: P B P | P B: P B P | P P: P B P""",
}


@pytest.mark.parametrize(("costs", "consumers"), [(SAME_4, None), (FROM_2_TO_3, 3)], ids=["same", "other devices"])
def test_the_table_is_the_compilers_but_for_its_penalties(costs, consumers):
    producers = 4 if consumers is None else 2
    penalty = 4 * 64 * (producers + (consumers or producers))
    for (a, source), row in zip(NAMES.items(), costs, strict=True):
        for (b, target), official in zip(NAMES.items(), row, strict=True):
            ours = table_bytes(source, target, 64, producers, consumers)
            stays = consumers is None and a == b
            if b == "P" and not stays:
                assert official == ours + penalty, (a, b)
            elif consumers is None and a == "B" and b != "B":
                assert (official, ours) == (1, 0)
            else:
                assert official == ours, (a, b)


@pytest.mark.parametrize("elements", CHOSEN)
def test_the_released_rule_chooses_as_the_compiler(elements):
    k = 8
    shapes = (elements[0] // k, k), (k, elements[1] // k)
    for line in CHOSEN[elements].split("|"):
        (a, b), signature = (part.split() for part in line.split(":"))
        graph = Graph()
        for name, shape in zip("ab", shapes, strict=True):
            graph.apply(name, identity(), graph.input(f"in_{name}", *shape))
        graph.apply("y", matmul(), "a", "b")
        plan = released(graph, (4,), {"a": (NAMES[a],), "b": (NAMES[b],)})
        chosen = [*(sbp for (sbp,) in plan.choice["y"].inputs), *plan.sbp("y")]
        assert chosen == [NAMES[name] for name in signature], (a, b)


def test_the_released_rule_splits_no_axis_that_is_shorter_than_the_devices_and_knows_no_meshes():
    assert released(matmul_chain([8, 8, 8]), (4,), {"x": (S(1),), "w1": (B,)}).sbp("y1") == (S(0),)
    assert released(matmul_chain([2, 8, 8]), (4,), {"x": (S(1),), "w1": (B,)}).sbp("y1") == (B,)
    assert released(matmul_chain([8, 8, 2]), (4,), {"x": (B,), "w1": (B,)}).sbp("y1") == (B,)
    with pytest.raises(ValueError, match="one dimension"):
        released(matmul_chain([8, 8, 8]), (2, 2))


def test_neither_rule_is_always_the_cheaper_one():
    differences = set()
    for sides, sbps in itertools.product(
        itertools.product((8, 64), repeat=4), itertools.product(NAMES.values(), repeat=3)
    ):
        if P not in sbps:
            fixed = {name: (sbp,) for name, sbp in zip(("x", "w1", "w2"), sbps, strict=True)}
            ours, theirs = (rule(matmul_chain(list(sides)), (4,), fixed).bytes for rule in (greedy, released))
            differences.add((ours > theirs) - (ours < theirs))
    assert differences == {-1, 0, 1}


def test_an_output_that_is_fetched_is_copied_by_every_rule():
    graph = Graph()
    graph.apply("out", fetch(), graph.input("x", 8, 8))
    assert released(graph, (4,), {"x": (S(0),)}).bytes == greedy(graph, (4,), {"x": (S(0),)}).bytes == 3 * 256
