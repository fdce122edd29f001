import pytest
import torch
from torch import Tensor, nn

from landscape.problem import Problem
from landscape.slices import normalize_direction, random_directions


def make_problem(dtype=torch.float32) -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 7), nn.LayerNorm(7)),
        nn.Embedding(5, 3),
    ).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=dtype))
    return Problem(model, nn.functional.cross_entropy, [])


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def straight(model: nn.Module, seed: int, *, ignore: bool) -> Tensor:
    """Filter normalisation parameter by parameter, filter by filter, in place."""
    size = sum(p.numel() for p in model.parameters())
    rest = torch.randn(size, generator=seeded(seed), dtype=next(model.parameters()).dtype)
    out = []
    for p in model.parameters():
        w = p.detach()
        d, rest = rest[: w.numel()].clone().reshape(w.shape), rest[w.numel() :]
        if w.dim() <= 1:
            d = torch.zeros_like(w) if ignore else w.clone()
        else:
            for i in range(w.shape[0]):
                d[i] *= w[i].norm() / (d[i].norm() + 1e-10)
        out.append(d.flatten())
    return torch.cat(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignore", ["bias_norm", None])
def test_filter_normalisation_equals_a_straight_loop_to_the_bit(dtype, ignore):
    problem = make_problem(dtype)
    (direction,) = random_directions(problem, 1, ignore=ignore, generator=seeded(5))
    assert torch.equal(direction, straight(problem.model, 5, ignore=ignore is not None))


def test_all_kinds_of_tensors_are_compared():
    layers = make_problem().model
    assert {type(layer) for layer in layers if list(layer.parameters())} == {
        *(nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.LayerNorm, nn.Embedding)
    }


@pytest.mark.parametrize("ignore", ["bias_norm", None])
def test_a_direction_of_ones_own_is_normalised_as_a_drawn_one(ignore):
    problem = make_problem()
    draw = torch.randn(problem.size, generator=seeded(5))
    own = normalize_direction(problem, draw, ignore=ignore)
    assert torch.equal(own, random_directions(problem, 1, ignore=ignore, generator=seeded(5))[0])
    assert torch.equal(normalize_direction(problem, draw, normalize=None, ignore=None), draw)
    with pytest.raises(ValueError, match="direction must be"):
        normalize_direction(problem, draw[1:])


def test_a_selection_is_normalised_by_itself():
    problem = make_problem()
    chosen = Problem(problem.model, problem.criterion, [], parameters=["4.weight", "5.weight"])
    (whole,) = random_directions(chosen, 1, generator=seeded(5))
    draw = torch.randn(chosen.size, generator=seeded(5))[: 7 * 144].view(7, 144)
    w = problem.model[4].weight.detach()
    expected = draw * (w.norm(dim=1) / (draw.norm(dim=1) + 1e-10))[:, None]
    torch.testing.assert_close(whole, torch.cat([expected.flatten(), torch.zeros(7)]))


def test_the_cosine_of_two_draws_is_normal_with_variance_one_over_size():
    problem, pairs = make_problem(torch.float64), 200
    draws = random_directions(problem, 2 * pairs, normalize=None, ignore=None, generator=seeded())
    cosines = draws.cosines[torch.arange(0, 2 * pairs, 2), torch.arange(1, 2 * pairs, 2)]
    z = cosines * problem.size**0.5
    assert abs(float(z.mean())) < 4 / pairs**0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / pairs) ** 0.5


def test_orthogonal_directions_are_so_and_keep_their_norms():
    problem = make_problem(torch.float64)
    plain, made = (random_directions(problem, 3, orthogonal=on, generator=seeded()) for on in (False, True))
    torch.testing.assert_close(made.cosines, torch.eye(3, dtype=torch.float64), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(made.norms, plain.norms, rtol=1e-13, atol=0.0)
    assert torch.equal(made[0], plain[0])
    assert made.details == {"kind": "random", "normalize": "filter", "ignore": "bias_norm", "orthogonal": True}


def test_each_filter_has_the_norm_of_its_weights_and_biases_stand_still():
    problem = make_problem(torch.float64)
    for direction in random_directions(problem):
        pieces, own = (problem.layout.unflatten(v) for v in (direction, problem.vector()))
        for d, w in zip(pieces, own, strict=True):
            expected = w.flatten(1).norm(dim=1) if w.ndim > 1 else torch.zeros(len(w), dtype=w.dtype)
            torch.testing.assert_close(d.reshape(len(d), -1).norm(dim=1), expected, rtol=1e-8, atol=0.0)  # 1e-10 / |d|


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_directions_scale_with_the_weights_of_a_filter(scale):
    problem = make_problem(torch.float64)
    (before,) = random_directions(problem, 1)
    with torch.no_grad():
        problem.model[0].weight[2] *= scale
    (after,) = random_directions(problem, 1)
    filter_2 = slice(2 * 9, 3 * 9)
    torch.testing.assert_close(after[filter_2], scale * before[filter_2], rtol=1e-12, atol=0.0)
    after[filter_2] = before[filter_2]
    assert torch.equal(after, before)


def test_layer_normalisation_keeps_the_draw_within_a_tensor():
    problem = make_problem(torch.float64)
    (plain,) = random_directions(problem, 1, normalize=None, ignore=None)
    (layer,) = random_directions(problem, 1, normalize="layer", ignore=None)
    for raw, d, w in zip(*(problem.layout.unflatten(v) for v in (plain, layer, problem.vector())), strict=True):
        if w.ndim <= 1:
            assert torch.equal(d, w)
        else:
            torch.testing.assert_close(d.norm(), w.norm(), rtol=1e-9, atol=0.0)
            torch.testing.assert_close(d / d.norm(), raw / raw.norm(), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("ignore", ["bias_norm", None])
def test_model_normalisation_rescales_the_vector_as_one(ignore):
    problem = make_problem(torch.float64)
    (plain,) = random_directions(problem, 1, normalize=None, ignore=ignore)
    (whole,) = random_directions(problem, 1, normalize="model", ignore=ignore)
    norm = problem.vector().norm()
    torch.testing.assert_close(whole, plain * (norm / plain.norm()), rtol=1e-9, atol=0.0)


def test_a_seed_draws_the_same_numbers_whatever_is_ignored():
    problem = make_problem()
    some, every = (
        random_directions(problem, 3, normalize=None, ignore=ignore, generator=seeded())
        for ignore in ("bias_norm", None)
    )
    for a, b in zip(some, every, strict=True):
        assert torch.equal(a[a != 0], b[a != 0])
        assert set(a[a != b].tolist()) == {0.0}


def test_the_draw_is_the_generators_and_the_global_state_is_left_alone():
    problem = make_problem()
    state = torch.get_rng_state()
    first, second = random_directions(problem, normalize=None, ignore=None, generator=seeded(1))
    assert torch.equal(state, torch.get_rng_state())
    source = seeded(1)
    assert torch.equal(first, torch.randn(problem.size, generator=source))
    assert torch.equal(second, torch.randn(problem.size, generator=source))
    assert torch.equal(random_directions(problem)[1], random_directions(problem)[1])


def test_a_dead_filter_stays_where_it_is():
    problem = make_problem()
    with torch.no_grad():
        problem.model[0].weight[1] = 0.0
    (direction,) = random_directions(problem, 1)
    assert set(direction[9:18].tolist()) == {0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be an integer at least 1, got 0"),
        ({"normalize": "filters"}, "normalize must be one of 'filter' | 'layer' | 'model' | None, got 'filters'"),
        ({"ignore": "biasbn"}, "ignore must be one of 'bias_norm' | None, got 'biasbn'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match="must be") as error:
        random_directions(make_problem(), **settings)
    assert str(error.value) == message


def test_nothing_left_to_move_is_an_error():
    problem = make_problem()
    biases = Problem(problem.model, problem.criterion, [], parameters=lambda _, p: p.ndim == 1)
    with pytest.raises(ValueError, match="pass ignore=None"):
        random_directions(biases)
    assert torch.equal(random_directions(biases, 1, ignore=None)[0], biases.vector())
