"""Graphs of operators on global tensors, and the training step of a small net as one of them.

As in OneFlow, the backward pass and the update are operators like any others: what data parallelism calls the
all-reduce of gradients, and ZeRO the sharded optimiser, are boxings that follow from the signatures of dW = X^T dY and
of W - lr dW.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from methods.oneflow import ops
from methods.oneflow.ops import Op, Shape
from methods.shared.checks import check_numbers, check_sizes


@dataclass(frozen=True)
class Node:
    """An operator and its output, which has the node's name. op: None for an input of the graph."""

    name: str
    op: Op | None
    inputs: tuple[str, ...]
    shape: Shape
    itemsize: int


@dataclass
class Graph:
    """Nodes in topological order. itemsize: bytes of an element, where an input does not say otherwise.

    feedback: updated -> old: the output that takes an input's place in the next step, and so must lie as it does.
    """

    itemsize: int = 4
    nodes: dict[str, Node] = field(default_factory=dict)
    feedback: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sizes("Graph", itemsize=self.itemsize)

    def input(self, name: str, *shape: int, itemsize: int | None = None) -> str:
        """Add an input. Raises TypeError and ValueError for a shape that is none."""
        check_sizes(f"Graph.input({name!r})", least=0, **{f"axis {i}": length for i, length in enumerate(shape)})
        return self._add(Node(name, None, (), shape, itemsize or self.itemsize))

    def apply(self, name: str, op: Op, *inputs: str) -> str:
        """Add an operator. Raises ValueError for an input that is not there yet."""
        missing = [i for i in inputs if i not in self.nodes]
        if missing:
            raise ValueError(f"{name}: input {missing[0]!r} is not in the graph; add it first")
        shape = op.shape(*(self.nodes[i].shape for i in inputs))
        return self._add(Node(name, op, inputs, shape, self.itemsize))

    def _add(self, node: Node) -> str:
        if node.name in self.nodes:
            raise ValueError(f"the graph has a node {node.name!r} already")
        self.nodes[node.name] = node
        return node.name

    def edges(self) -> list[tuple[str, str, int]]:
        """(producer, consumer, which of its inputs)."""
        return [(name, node.name, i) for node in self.nodes.values() for i, name in enumerate(node.inputs)]


def matmul_chain(sizes: list[int], itemsize: int = 4) -> Graph:
    """x (m, k0), w1 (k0, k1), ...: y1 = x w1, y2 = y1 w2, ..., and the last is fetched."""
    graph = Graph(itemsize)
    value = graph.input("x", sizes[0], sizes[1])
    for i, shape in enumerate(itertools.pairwise(sizes[1:]), 1):
        value = graph.apply(f"y{i}", ops.matmul(), value, graph.input(f"w{i}", *shape))
    graph.apply("out", ops.fetch(), value)
    return graph


def cross_entropy(graph: Graph, logits: str, labels: str) -> tuple[str, str]:
    """Adds the mean cross-entropy and its gradient in the logits. Returns their names.

    In the two stages of OneFlow's softmax: the maximum of each row, then the sum of exponentials. With split classes
    each is a partial value that is boxed to copies, P_MAX -> B and P -> B, of one number for each row. A class whose
    logit is -inf is masked. Every label counts: running the step raises IndexError for one that is no class (-100).
    """
    rows, classes = graph.nodes[logits].shape
    scores = graph.apply("scores", ops.identity(), logits)
    largest = graph.apply("largest", ops.reduce_max(1), scores)
    shifted = graph.apply("shifted", ops.row_subtract(), scores, largest)
    exponentials = graph.apply("exponentials", ops.exp(), shifted)
    total = graph.apply("total", ops.reduce_sum(1), exponentials)
    picked = graph.apply("picked", ops.take_label(classes), shifted, labels)
    loss = graph.apply("row_loss", ops.subtract(1), graph.apply("log_total", ops.log(1), total), picked)
    mean = graph.apply("mean_loss", ops.scale(1 / rows, 0), graph.apply("sum_loss", ops.reduce_sum(0, 1), loss))
    probabilities = graph.apply("probabilities", ops.row_divide(), exponentials, total)
    errors = graph.apply("errors", ops.subtract_one_hot(classes), probabilities, labels)
    return graph.apply("loss", ops.fetch(), mean), graph.apply("dlogits", ops.scale(1 / rows), errors)


def mlp_step(batch: int, width_in: int, hidden: int, classes: int, lr: float = 0.1, itemsize: int = 4) -> Graph:
    """One step of gradient descent of relu(x w1) w2 with cross-entropy: forward, backward and update.

    Raises TypeError and ValueError for invalid sizes and rates.

    Inputs x (batch, width_in), labels (batch,) int64, w1 (width_in, hidden), w2 (hidden, classes); outputs loss (),
    new_w1, new_w2.
    """
    check_sizes("mlp_step", batch=batch, width_in=width_in, hidden=hidden, classes=classes, itemsize=itemsize)
    check_numbers("mlp_step", least=0, lr=lr)
    graph = Graph(itemsize)
    x, labels = graph.input("x", batch, width_in), graph.input("labels", batch, itemsize=8)
    w1, w2 = graph.input("w1", width_in, hidden), graph.input("w2", hidden, classes)
    z = graph.apply("z", ops.matmul(), x, w1)
    h = graph.apply("h", ops.relu(), z)
    logits = graph.apply("logits", ops.matmul(), h, w2)
    _, dlogits = cross_entropy(graph, logits, labels)
    dw2 = graph.apply("dw2", ops.matmul(transpose_a=True), h, dlogits)
    dh = graph.apply("dh", ops.matmul(transpose_b=True), dlogits, w2)
    dz = graph.apply("dz", ops.relu_grad(), dh, z)
    dw1 = graph.apply("dw1", ops.matmul(transpose_a=True), x, dz)
    for weight, gradient in ((w1, dw1), (w2, dw2)):
        graph.feedback[graph.apply(f"new_{weight}", ops.subtract(2, lr), weight, gradient)] = weight
    return graph
