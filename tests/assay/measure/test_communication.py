from __future__ import annotations

import torch
import torch.distributed as dist
from assay.measure.communication import count_communication
from assay.ranks import run_ranks

def probe(rank, P):
    out={}
    import torch.distributed._functional_collectives as fc
    with count_communication() as c:
        t=torch.ones(8); big=torch.ones(8*P); L=[torch.ones(8) for _ in range(P)]
        dist.all_reduce(t); dist.broadcast(t,1); dist.all_gather(L,t); dist.all_gather_into_tensor(big,t); dist.reduce_scatter_tensor(t,big)
        dist.reduce_scatter(t,L); dist.all_to_all_single(torch.empty_like(big),big); dist.all_to_all([torch.empty(8) for _ in L],L)
        dist.all_to_all_single(torch.empty(8*P),big,[8]*P,[8]*P)
        dist.gather(t,L if rank==0 else None,0); dist.scatter(t,L if rank==0 else None,0); dist.reduce(t,1); dist.barrier()
        if rank==0: dist.send(t,1)
        if rank==1: dist.recv(t,0)
        g=dist.new_group([0,1])
        if rank<2: dist.all_reduce(t,group=g)
        if rank<2: dist.barrier(group=g)
        for w in dist.batch_isend_irecv([dist.P2POp(dist.isend,t,(rank+1)%P),dist.P2POp(dist.irecv,torch.empty(8),(rank-1)%P)]): w.wait()
        dist.all_gather_object([None]*P,{"a":rank})
    out["rows"]=[(r.collective,r.world_size,r.calls,r.sent_bytes,r.sent_messages) for r in c.rows()]
    for n,f in dict(fc=lambda: fc.all_reduce(torch.ones(3),"sum",dist.group.WORLD).wait(), ddp=lambda:torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3,3)),mb=dist.monitored_barrier, co=lambda:dist.all_reduce_coalesced([torch.ones(2)])).items():
        try:
            with count_communication() as c: f()
        except Exception as e: out[n]=repr(e)
        else: out[n]='no error'
    return out
def test_x():
    r=run_ranks(probe,3)
    print(r[0]); print(r[1]["rows"])
