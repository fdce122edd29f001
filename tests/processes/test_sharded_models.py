"""A model sharded over two gloo processes, by FSDP2 and tensor parallelism, against one process with all the data."""

import os
import re
import signal
from functools import cache
from pathlib import Path

import pytest
import torch
from served import of_two_ranks, served
from sharded_networks import data, message_of, network, seeded, sharded, whole
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F

from landscape import METRICS, Problem, analyze, random_directions
from landscape.curvature import ggn, hessian
from landscape.curvature.block_spectra import block_spectra
from landscape.interop import distributed_checkpoint
from landscape.linalg import diagonal, spectral_density, top_eigenpairs, trace
from landscape.linalg.krylov import Krylov
from landscape.linalg.scaled import Scaled
from landscape.metrics.average import average_gap
from landscape.metrics.worst_case import surrogate_gap, worst_case_gap
from landscape.processes import space
from landscape.slices import gradient_norm_map, slice_1d, slice_2d
from landscape.slices.directions.eigen import hessian_directions
from landscape.training import rules
from landscape.training.sharpness_aware.step import SharpnessAware

BATCHES = {"two and one": ([0, 1], [2]), "all on both": ([1], [1])}
NORMALIZE = {"fsdp": "filter", "tensor parallel": "model"}  # of which the second cuts rows
RUNS = [("fsdp", "two and one"), ("tensor parallel", "all on both")]


def numbers(problem, normalize):
    """Everything that is asked of a problem, sharded or not."""
    H, v = hessian(problem), problem.space.normal(2, seeded(1)).T.contiguous()
    loss, gradient = problem.loss_and_gradient()
    image = H @ v
    pairs = top_eigenpairs(H, 4, tol=1e-6, generator=seeded(2))
    density = spectral_density(H, probes=2, steps=5, outliers=1, check=4, generator=seeded(3))
    spectra = block_spectra(problem, "layer", k=1, trace_matvecs=6, generator=seeded(6))
    line = slice_1d(
        problem, pairs.vectors[:, 0] * whole(problem, pairs.vectors)[:, 0].sum().sign(), (-1, 1, 5), progress=False
    )
    d1, d2 = random_directions(problem, 2, normalize=normalize, ignore=None, orthogonal=True, generator=seeded(4))
    plane = slice_2d(problem, d1, d2, (-1.0, 1.0, 2), (-1.0, 1.0, 2), progress=False)
    toward = random_directions(problem, 1, normalize="layer", generator=seeded(4))
    gap = worst_case_gap(problem, rho=0.1, steps=8, restarts=1, generator=seeded(5))
    return {
        "loss": problem.loss(),
        "loss elsewhere": problem.loss(problem.vector() + 0.1 * v[:, 0]),
        "loss beside gradient": loss,
        "gradient": whole(problem, gradient[:, None]),
        "products": whole(problem, image),
        "eigenvalues": pairs.values,
        "leading vector": whole(problem, pairs.vectors[:, :1]).abs(),
        "from a start": top_eigenpairs(H, 2, start=v, generator=seeded(2)).values,
        "blocks of three": top_eigenpairs(H, 3, block_size=3, tol=1e-6, generator=seeded(2)).values,
        "restarts": top_eigenpairs(H, 2, basis_size=8, tol=1e-5, basis_dtype=torch.float32).values,
        "trace": torch.stack(
            [getattr(trace(H, matvecs=10, generator=seeded(7)), part) for part in ("value", "stderr")]
        ),
        "hutch++": trace(H, matvecs=9, method="hutch++", generator=seeded(7)).value,
        "hutchinson": trace(H, matvecs=4, method="hutchinson", generator=seeded(7)).value,
        "nodes": density.nodes,
        "weights": density.weights,
        "moments": torch.tensor(list(density.moments.values())),
        "blocks": spectra.values.nan_to_num(),
        "traces of blocks": spectra.trace,
        "line": line.loss["train"],
        "accuracy": line.accuracy["train"],
        "units": torch.tensor(line.details["units"]["train"]),
        "plane": plane.loss["train"],
        "lengths": plane.norms,
        "cosine": plane.cosine,
        "directions": whole(problem, torch.stack([d1, d2, *toward], dim=1)),
        "eigen directions": whole(problem, torch.stack(list(hessian_directions(problem, 2, scale="model")), dim=1)),
        "worst case": gap.value,
        "its length": torch.tensor(gap.details["length"]),
        "worst case, max norm": worst_case_gap(problem, rho=0.01, p=float("inf"), steps=4).value,
        "surrogate": surrogate_gap(problem).value,
        "average": average_gap(problem, draws=3, generator=seeded(9)).value,
        **{
            f"analysed {name}": found.value
            for name, found in analyze(problem, ["lambda_max", "trace", "gradient_norm"]).items()
        },
    }


OF_SHARDS = [  # which FSDP2 calls, by version of torch
    name
    for name in ("all_gather_single", "reduce_scatter_single", "all_gather_into_tensor", "reduce_scatter_tensor")
    if hasattr(distributed, name)
]


class Messages:
    """A test double of torch.distributed: counts what a process sends and passes it on."""

    NAMES = ("all_reduce", "all_gather", "broadcast", *OF_SHARDS)

    def __init__(self):
        self.sent = []

    def __enter__(self):
        self.found = {name: getattr(distributed, name) for name in self.NAMES}
        for name, call in self.found.items():
            setattr(distributed, name, self.counting(name, call))
        return self

    def __exit__(self, *_):
        for name, call in self.found.items():
            setattr(distributed, name, call)

    def counting(self, name, call):
        def counted(*args, **settings):
            tensors = [a for a in (*args, *settings.values()) if isinstance(a, torch.Tensor)]
            self.sent.append((name, max(t.nbytes for t in tensors)))
            return call(*args, **settings)

        return counted

    def taken(self):
        """Number and bytes of each kind since the last call."""
        sent, self.sent = self.sent, []
        kinds = {"gathered": "all_gather", "scattered": "reduce_scatter", "reduced": "all_reduce", "sent": "broadcast"}
        found = {kind: [n for name, n in sent if name.startswith(start)] for kind, start in kinds.items()}
        return {kind: (len(own), sum(own)) for kind, own in found.items() if own}


def lanczos_steps(problem):
    """What four steps after the first one send."""
    with Messages() as messages:
        H = Scaled(hessian(problem))
        krylov = Krylov(H, 8, 1, seeded(0))
        krylov.begin_random(1)
        krylov.absorb(krylov.products(1))
        messages.taken()
        steps = []
        for _ in range(4):
            krylov.absorb(krylov.products(1))
            steps.append((krylov.count - 1, messages.taken()))
    return steps


def refusals(rank, mesh):
    """What a sharded model cannot do, each in one line on all processes, and what it leaves as it was."""
    model = sharded("fsdp", mesh)
    x, t = data()[0]
    problem = Problem(model, F.cross_entropy, [(x, t)])
    empty = Problem(model, F.cross_entropy, [(x, t)] * rank)
    broken = Problem(model, F.cross_entropy, Broken(x, t) if rank else [(x, t)])
    nan = Problem(model, F.cross_entropy, [(x * (float("nan") if rank else 1), t)])
    away = sharded("fsdp", mesh)
    away.set_gradient_divide_factor(1.0)
    away[0].set_gradient_divide_factor(1.0)
    wrong = Problem(away, F.cross_entropy, [(x, t)])
    H, v = hessian(problem), problem.vector()
    asked = {
        "double_backward": lambda: hessian(problem, mode="double_backward"),
        "memory": lambda: hessian(problem, memory=1),
        "ggn": lambda: ggn(problem),
        "weight_norm": lambda: METRICS["weight_norm"](problem),
        "diagonal": lambda: diagonal(H),
        "resume": lambda: slice_1d(problem, v, (-1, 1, 3), resume="line.jsonl"),
        "basis": lambda: top_eigenpairs(H, 1, resume="pairs.npz"),
        "probes": lambda: trace(H, resume="trace.npz"),
        "clock": lambda: analyze(problem, ["trace"], budget=1.0),
        "map": lambda: gradient_norm_map(problem, v, v, (-1, 1, 2), (-1, 1, 2)),
        "geometry": lambda: worst_case_gap(problem, geometry="fisher"),
        "norm": lambda: worst_case_gap(problem, p=1),
        "outputs": problem.outputs,
        "dtype": lambda: Problem(model, F.cross_entropy, [(x, t)], dtype=torch.float32),
        "one gradient": lambda: problem.mean(lambda batch: batch.gradient(batch.w)),
        "no batch": empty.loss,
        "broken": broken.loss,
        "nan": nan.loss,
        "nan gradient": nan.gradient,
        "factor": lambda: hessian(wrong) @ v,
    }
    return {name: message_of(call, OSError) for name, call in asked.items()} | {"afterwards": problem.loss()}


class Broken:
    def __init__(self, *pair):
        self.pair = pair

    def __iter__(self):
        yield self.pair
        raise OSError("no such file")


def traces_left(mesh, rank):
    """Whether weights, gradients, buffers, flags and random state are as they were, to the bit."""
    torch.manual_seed(rank)
    model = sharded("fsdp", mesh).train()
    (x, t), *_ = data()
    F.cross_entropy(model(x), t).backward()
    for p in list(model.parameters())[1:3]:
        p.grad = None

    def state():
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        tensors = [t.to_local().clone() for p in model.parameters() for t in (p, p.grad) if t is not None]
        return [*tensors, torch.get_rng_state(), *(torch.tensor(m.training) for m in model.modules())]

    before, problem = state(), Problem(model, F.cross_entropy, [(x, t)])
    hessian(problem) @ problem.vector()
    after = state()
    return len(before) == len(after) and all(one.equal(two) for one, two in zip(before, after, strict=True))


class Changing(nn.Module):
    """A layer whose forward pass assigns a buffer, writes into one, and counts; the next one has it as it was."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.calls = nn.Linear(4, 3).double(), 0
        self.register_buffer("assigned", torch.ones(()))
        self.register_buffer("written", torch.ones(()))

    def forward(self, x):
        self.assigned, self.calls = self.assigned + 1, self.calls + 1
        self.written += 1
        return self.layer(x) * self.assigned * self.calls / self.written.item()


def changing(mesh):
    """Losses at two evaluations, sharded and whole, and what the model holds afterwards."""
    model = fully_shard(Changing(), mesh=mesh)
    problems = [Problem(own, F.cross_entropy, data()[:1] * 2) for own in (model, Changing())]
    losses = torch.stack([problem.loss() for problem in problems for _ in range(2)])
    return losses, (float(model.assigned), float(model.written), model.calls)


def precisions(mesh):
    """Eigenvalue, residual and error of products in float32, and what is said where FSDP2 computes in bfloat16."""
    batches = [(x.float(), t) for x, t in data()]
    single, half = (
        fully_shard(network("fsdp").float(), mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=kind))
        for kind in (None, torch.bfloat16)
    )
    H = hessian(Problem(single, F.cross_entropy, batches))
    coarse = hessian(Problem(half, lambda z, t: F.cross_entropy(z.float(), t), batches))
    pairs = top_eigenpairs(H, 1, max_matvecs=12)
    said = message_of(lambda: coarse @ coarse.space.normal(1, seeded(0))[0].float(), OSError)
    return float(pairs.values), float(pairs.residuals), H.error_estimate, said


def checkpoints(mesh, folder):
    """Weights and eigenvectors written by two processes."""
    model = sharded("fsdp", mesh)
    problem = Problem(model, F.cross_entropy, data())
    pairs = top_eigenpairs(hessian(problem), 2, tol=1e-6)
    distributed_checkpoint.save_pairs(problem, pairs, f"{folder}/pairs")
    again = distributed_checkpoint.load_pairs(problem, f"{folder}/pairs")
    checkpoint.save({"model": model.state_dict()}, checkpoint_id=f"{folder}/weights")
    other = sharded("fsdp", mesh)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(2)
    distributed_checkpoint.load_weights(other, f"{folder}/weights")
    same = Problem(other, F.cross_entropy, data()).vector().equal(problem.vector())
    equal = all(getattr(again, name).equal(getattr(pairs, name)) for name in ("values", "vectors", "converged"))
    return {"same": same and equal, "pairs": (pairs.values, whole(problem, pairs.vectors))}


def llama(**shape):
    """Grouped queries, RMSNorm, tied embeddings; the rotation in float64 as all else."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 20} | shape
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16}
    config = transformers.LlamaConfig(**sizes, **heads, tie_word_embeddings=True, use_cache=False)
    return transformers.LlamaForCausalLM(config).double()


def tokens(model, count=4, length=5):
    source = torch.Generator().manual_seed(1)
    return list(torch.randint(1, model.config.vocab_size, (count, 2, length), generator=source))


def next_token(z, x):
    return F.cross_entropy(z[:, :-1].flatten(0, 1), x[:, 1:].flatten())


def steps_of_sam(model, batches):
    """Losses of three steps of SAM, each on one batch, or on this process's half of it."""
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), rules.sam(rho=0.1), model=model)
    losses = []
    for x in batches[:3]:

        def closure(x=x):
            opt.zero_grad()
            loss = next_token(model(input_ids=x).logits, x)
            loss.backward()
            return loss

        losses.append(opt.step(closure).detach())
    return torch.stack(losses)


def language_model(model, share=None, products=12, **how):
    """What the issue asks of a Llama: five eigenvalues, trace, density, blocks, line, worst case, steps of SAM."""
    batches = tokens(model)
    mine = batches if share is None else batches[share[0] :: share[1]]
    problem = Problem(model, next_token, [(x, x) for x in mine], forward=lambda m, x: m(input_ids=x).logits)
    H = hessian(problem)
    pairs = top_eigenpairs(H, 5, tol=1e-5, generator=seeded(0))
    traced = trace(H, matvecs=products, generator=seeded(1))
    density = spectral_density(H, generator=seeded(2), **({"probes": 1, "steps": 5, "check": 0} | how))
    spectra = block_spectra(problem, {"embedding": "*embed*", "attention": "*attn*"}, trace_matvecs=4, max_matvecs=12)
    line = slice_1d(problem, random_directions(problem, 1, generator=seeded(3))[0], (-1, 1, 3), progress=False)
    found = {
        "size": torch.tensor(problem.size),
        "eigenvalues": pairs.values,
        "residuals": pairs.residuals,
        "error": torch.tensor(H.error_estimate),
        "trace": torch.stack([traced.value, traced.stderr]),
        "moments": torch.stack([(density.weights * density.nodes**n).sum(1) for n in (1, 2)]),
        "blocks": spectra.values[:, 0],
        "traces of blocks": spectra.trace,
        "line": line.loss["train"],
        "worst case": worst_case_gap(problem, rho=0.05, steps=4).value,
    }
    if share is not None:
        batches = [x.chunk(2)[share[0] % 2] for x in batches]
    return found | {"steps of SAM": steps_of_sam(model, batches)}


def sharded_llama(mesh, **shape):
    model = llama(**shape)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def killed_in_a_product(rank, folder):
    """Rank 1 is killed while both make products; what rank 0 says then."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    H = hessian(Problem(sharded("fsdp", init_device_mesh("cpu", (2,))), F.cross_entropy, data()))
    top_eigenpairs(H, 1, max_matvecs=3)
    if rank:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, "said").write_text(message_of(lambda: top_eigenpairs(H, 1, max_matvecs=1000, tol=1e-15), OSError))
    os._exit(0)  # a group that has lost a process is not taken down in order


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh, found, batches = init_device_mesh("cpu", (2,)), {}, data()
    for kind, label in RUNS:
        problem = Problem(sharded(kind, mesh), F.cross_entropy, [batches[i] for i in BATCHES[label][rank]])
        found[kind, label] = numbers(problem, NORMALIZE[kind])
    found["llama"] = language_model(sharded_llama(mesh), share=(rank, 2))
    found["steps"] = lanczos_steps(Problem(sharded("fsdp", mesh), F.cross_entropy, batches[:2]))
    found["refusals"] = refusals(rank, mesh)
    found["no trace"] = traces_left(mesh, rank)
    found["changing"] = changing(mesh)
    found["precisions"] = precisions(mesh)
    found["checkpoints"] = checkpoints(mesh, folder)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def found(folder):
    return of_two_ranks(process, folder)


@cache
def expected(kind, label):
    indices = [0, 1, 2] if kind == "fsdp" else BATCHES[label][0]
    return numbers(Problem(network(kind), F.cross_entropy, [data()[i] for i in indices]), NORMALIZE[kind])


@pytest.mark.parametrize(("kind", "label"), RUNS)
def test_numbers_are_those_of_one_process(found, kind, label):
    for rank in range(2):
        wrong = {}
        for what, number in expected(kind, label).items():
            times = 2 if what == "units" and kind != "fsdp" else 1  # each process counts what it has seen
            off, size = (found[rank][kind, label][what] - times * number).double().norm(), number.double().norm()
            if not off <= (1e-4 if "vector" in what or "eigen d" in what else 1e-6) * size.clamp(min=1e-6):
                wrong[what] = float(off / size)
        assert not wrong


def test_a_llama_is_that_of_one_process(found):
    one = language_model(llama())
    for rank in range(2):
        got = found[rank]["llama"]
        assert 0 < float(got["error"]) < 1e-2  # as in float32, in which the norms inside compute
        assert ((got["eigenvalues"] - one["eigenvalues"]).abs() <= got["residuals"] + one["residuals"]).all()
        for what in ("eigenvalues", "trace", "moments", "blocks", "traces of blocks"):
            assert (got[what] - one[what]).abs().max() <= 1e-4 * one[what].abs().max(), what
        for what in ("line", "worst case"):
            torch.testing.assert_close(got[what], one[what], rtol=1e-6, atol=0.0)
    halves = (found[0]["llama"]["steps of SAM"] + found[1]["llama"]["steps of SAM"]) / 2
    torch.testing.assert_close(halves, one["steps of SAM"], rtol=1e-6, atol=0.0)


def test_a_killed_process_ends_the_others_with_one_line(tmp_path):
    ranks = [served().Process(target=killed_in_a_product, args=(rank, str(tmp_path))) for rank in range(2)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(120)
    assert [one.exitcode for one in ranks] == [0, -signal.SIGKILL]
    said = (tmp_path / "said").read_text()
    assert re.fullmatch("a process of the group has ended or does not answer: .*; start all of them anew", said), said


def test_a_lanczos_step_sends_what_the_cost_model_says(found):
    """docs/scale.md, sharded models: B batches, m vectors in the basis, G groups of FSDP2, n processes, k gradients."""
    B, G, n = 2, 2, 2
    padded = [8 * n * -(-len(p) // n) * p[0].numel() for p in network("fsdp").parameters()]
    inner, root = sum(padded[:4]), sum(padded[4:])
    for rank in range(2):
        for m, sent in found[rank]["steps"]:
            k = sent["scattered"][0] // (B * G)
            assert k in (4, 6)
            assert sent == {
                "reduced": (k * (B + 3) + 5, k * (24 * (B + 2) + 16) + 8 * (m + 5)),
                "gathered": (k * B * (2 * G - 1), k * B * (2 * inner + root)),
                "scattered": (k * B * G, k * B * (inner + root)),
            }
        assert any(sent["scattered"][0] == 4 * B * G for _, sent in found[rank]["steps"])


REFUSED = {
    "double_backward": "mode of a sharded model, which has no second derivatives, must be .*",
    "memory": r"\['memory'\] must be left out for a sharded model, whose products are differences of gradients",
    "ggn": "ggn needs second derivatives or graphs: a sharded model is differentiated by backward.*",
    "weight_norm": "weight_norm needs whole vectors, got a sharded model; there are average_gap, .*",
    "diagonal": "diagonal needs whole vectors, got those of a sharded model; gather it first",
    "resume": "resume, workers and group must be left out for a sharded model.*",
    "basis": "resume= and basis_group= must be left out where vectors are dealt out to processes.*",
    "probes": "resume must be None for a sharded model, got trace.npz",
    "clock": "budget must be None on several processes, whose clocks would end it apart, got 1.0; name fewer metrics",
    "map": "a map needs whole vectors, got a sharded model; gather it on one process",
    "geometry": "geometry of a sharded model must be .*",
    "norm": "p must be 2 or inf for a sharded model, got 1",
    "outputs": "outputs are those of one process.*",
    "dtype": "a sharded model is evaluated as it is, got batch_norm='recompute' or dtype=; leave them out",
    "one gradient": "a sharded model is differentiated by backward.*",
    "no batch": "each of the 2 processes of a sharded model must hold at least one batch, got none on 1",
    "nan": "the loss is nan; check the weights, inputs and targets for NaN",
    "nan gradient": "the loss is nan; check the weights, inputs and targets for NaN",
    "factor": "the gradient of the sharded model is off by 0.5 from differences of its loss; is it averaged .*",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_sharded_model_cannot_do_is_said_in_one_line_on_all_processes(found, what):
    for rank in range(2):
        assert re.fullmatch(REFUSED[what], found[rank]["refusals"][what]), found[rank]["refusals"][what]


def test_a_failure_in_reading_is_raised_in_all_and_none_waits(found):
    here, there = found[1]["refusals"], found[0]["refusals"]
    assert here["broken"] == "no such file"
    assert there["broken"] == "1 other process(es) failed in reading the data; see their messages"
    assert here["afterwards"].equal(there["afterwards"])


def test_nothing_is_left_behind(found):
    assert found[0]["no trace"]
    assert found[1]["no trace"]


def test_a_forward_pass_that_changes_its_module_finds_it_as_it_was(found):
    for own in found:
        (*sharded, whole, again), left = own["changing"]
        assert whole == again
        torch.testing.assert_close(torch.stack(sharded), whole.expand(2), rtol=1e-12, atol=0)
        assert left == (1.0, 1.0, 0)


def test_stated_errors_cover_those_of_single_precision_and_half_precision_is_refused(found):
    batches = [(x.float().double(), t) for x, t in data()]
    model = network("fsdp").float().double()
    exact = float(top_eigenpairs(hessian(Problem(model, F.cross_entropy, batches)), 1, tol=1e-8).values)
    value, residual, error, said = found[0]["precisions"]
    assert abs(value - exact) <= residual
    assert 0 < error < 0.02
    assert abs(value - exact) < 1e-3 * abs(exact)
    assert re.fullmatch("products are off by .* eps 0.008 decide nothing here; compute in float32 .*", said)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_checkpoints_are_read_by_two_processes_and_by_one(found, folder):
    assert found[0]["checkpoints"]["same"]
    assert found[1]["checkpoints"]["same"]
    problem = Problem(network("fsdp"), F.cross_entropy, data())
    pairs = distributed_checkpoint.load_pairs(problem, folder / "pairs")
    values, vectors = found[0]["checkpoints"]["pairs"]
    assert pairs.values.equal(values)
    assert pairs.vectors.equal(vectors)
    model = network("fsdp")
    nn.init.zeros_(model[3].weight)
    distributed_checkpoint.load_weights(model, folder / "weights")
    assert Problem(model, F.cross_entropy, data()).vector().equal(problem.vector())


@pytest.mark.parametrize("size", [3, 40, 1000])
def test_numbers_drawn_in_parts_are_those_of_one_piece(size, monkeypatch):
    monkeypatch.setattr(space, "DRAWN", 32)
    sizes = [size // 3, 0, size - size // 3]
    whole = torch.randn(size, generator=seeded(3), dtype=torch.float64)
    assert torch.cat(list(space.drawn(sizes, seeded(3)))).equal(whole)
