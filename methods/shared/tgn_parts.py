"""What models made of torch-geometric's TGN parts share: the state that a stream has written to them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch_geometric.nn.models.tgn import LastNeighborLoader, TGNMemory


class TGNParts(nn.Module):
    """A model over one stream with a `TGNMemory` and a `LastNeighborLoader`, whose state lies in more than buffers."""

    memory: TGNMemory
    neighbors: LastNeighborLoader

    def reset(self) -> None:
        """Forget the stream."""
        self.memory.reset_state()
        self.neighbors.reset_state()

    def state(self) -> dict[str, Any]:
        """A copy of memories, waiting messages and neighbours."""
        memory, near = self.memory, self.neighbors
        return {
            "memory": memory.memory.clone(), "last_update": memory.last_update.clone(),
            "messages": (dict(memory.msg_s_store), dict(memory.msg_d_store)),
            "neighbors": (near.neighbors.clone(), near.e_id.clone(), near.cur_e_id),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        memory, near = self.memory, self.neighbors
        memory.memory.copy_(state["memory"])
        memory.last_update.copy_(state["last_update"])
        memory.msg_s_store, memory.msg_d_store = (dict(store) for store in state["messages"])
        near.neighbors.copy_(state["neighbors"][0])
        near.e_id.copy_(state["neighbors"][1])
        near.cur_e_id = state["neighbors"][2]
