"""A step on parameters that FSDP2 shards over two processes, against one process with the whole batch."""

import torch
import torch.nn.functional as F
from served import of_two_ranks
from step_cases import BASES, data, network, two_pass_rules, weights
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from landscape.training.sharpness_aware.step import SharpnessAware

RULES = ("sam", "asam", "fisher_sam", "gsam", "friendly_sam", "wsam", "ssam_d", "looksam")


def steps(model, name, base, share=None):
    """Three steps, each on all of a batch or on one process's half of it."""
    opt = SharpnessAware(base(model.parameters(), **BASES[base]), two_pass_rules(0.3)[name], model=model)
    for step in range(3):
        x, y = data(step)
        if share is not None:
            x, y = x.chunk(2)[share], y.chunk(2)[share]

        def closure(x=x, y=y, opt=opt):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        opt.step(closure)


def sharded(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh, found = init_device_mesh("cpu", (2,)), {}
    for name in RULES:
        for base in BASES:
            model = network(nn.LayerNorm(5))
            fully_shard(model[0], mesh=mesh)
            fully_shard(model, mesh=mesh)
            steps(model, name, base, rank)
            found[name, base.__name__] = torch.cat([p.full_tensor().detach().flatten() for p in model.parameters()])
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_steps_on_sharded_parameters_equal_one_process(tmp_path):
    ranks = of_two_ranks(sharded, tmp_path)
    for name in RULES:
        for base in BASES:
            model = network(nn.LayerNorm(5))
            steps(model, name, base)
            for found in ranks:
                torch.testing.assert_close(found[name, base.__name__], weights(model), rtol=1e-9, atol=1e-11)
