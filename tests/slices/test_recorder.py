import copy

import pytest
import torch
from cases import everything, make, same
from safetensors.torch import load_file
from torch.nn import functional as F

from landscape.slices.paths.recorder import Recorder, Snapshots


def train(steps, recorder=None, start=0, state=None):
    """SGD with momentum on the case's batches; the state to go on from."""
    case = make("conv_bn")
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1, momentum=0.9)
    if state is not None:
        case.model.load_state_dict(state[0])
        optimizer.load_state_dict(copy.deepcopy(state[1]))  # else it would train on the state's own tensors
    watch = recorder(case.model) if recorder else None
    for step in range(start, steps):
        inputs, targets = case.batches[step % 2]
        optimizer.zero_grad()
        F.cross_entropy(case.model(inputs), targets).backward()
        optimizer.step()
        if watch is not None:
            watch.step()
    return case, copy.deepcopy((case.model.state_dict(), optimizer.state_dict())), watch


def held(folder):
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def test_every_second_step_is_kept_and_the_training_untouched(tmp_path):
    plain, _, _ = train(5)
    case, _, recorder = train(5, lambda model: Recorder(model, tmp_path, every=2))
    assert same(everything(case.model), everything(plain.model))
    kept = Snapshots(recorder, case.problem().layout)
    assert kept.steps == [0, 2, 4]
    for step in kept.steps:
        there, _, _ = train(step)
        w, buffers = kept.at(step)
        assert torch.equal(w, there.problem().vector())
        assert same(list(buffers.items()), sorted(there.model.named_buffers()))


def test_a_killed_run_goes_on_and_ends_with_the_same_snapshots(tmp_path):
    train(9, lambda model: Recorder(model, tmp_path / "whole", every=2))
    _, state, _ = train(4, lambda model: Recorder(model, tmp_path / "killed", every=2))
    train(7, lambda model: Recorder(model, tmp_path / "killed", every=2, start=4), 4, state)  # past its checkpoint
    train(9, lambda model: Recorder(model, tmp_path / "killed", every=2, start=4), 4, state)
    whole, killed = held(tmp_path / "whole"), held(tmp_path / "killed")
    assert list(whole) == list(killed)
    assert all(same(sorted(whole[name].items()), sorted(killed[name].items())) for name in whole)


def test_what_was_recorded_after_the_point_to_go_on_from_is_removed(tmp_path):
    _, state, _ = train(4, lambda model: Recorder(model, tmp_path / "longer"))
    train(9, lambda model: Recorder(model, tmp_path / "longer", start=4), 4, state)
    case, _, recorder = train(5, lambda model: Recorder(model, tmp_path / "longer", start=4), 4, state)
    assert Snapshots(recorder, case.problem().layout).steps == [0, 1, 2, 3, 4, 5]


def test_half_a_file_of_a_killed_writer_is_no_snapshot(tmp_path):
    case, _, recorder = train(2, lambda model: Recorder(model, tmp_path))
    (tmp_path / "step-000000003.partial.safetensors").write_bytes(b"half of a fi")
    assert Snapshots(recorder, case.problem().layout).steps == [0, 1, 2]


def test_columns_are_pieces_of_all_weights(tmp_path):
    case, _, _ = train(3, lambda model: Recorder(model, tmp_path))
    kept = Snapshots(tmp_path, case.problem().layout)
    whole = torch.stack([kept.at(step)[0] for step in kept.steps])
    assert torch.equal(kept.columns(5, 17), whole[:, 5:17])


def test_beginning_anew_removes_what_was_there_and_must_be_asked_for(tmp_path):
    train(3, lambda model: Recorder(model, tmp_path))
    with pytest.raises(ValueError, match="up to step 3; pass start="):
        Recorder(make("conv_bn").model, tmp_path)
    recorder = Recorder(make("mlp").model, tmp_path, start=0)
    assert Snapshots(recorder, recorder.layout).steps == [0]


def test_a_selection_is_kept_and_must_be_the_problems(tmp_path):
    case, _, _ = train(1, lambda model: Recorder(model, tmp_path, parameters=["4.weight"]))
    chosen = case.problem(parameters=["4.weight"])
    assert torch.equal(Snapshots(tmp_path, chosen.layout).at(1)[0], chosen.vector())
    with pytest.raises(ValueError, match="give Recorder and Problem the same parameters="):
        Snapshots(tmp_path, case.problem().layout)
    with pytest.raises(ValueError, match="snapshots of other parameters"):
        Recorder(case.model, tmp_path, start=1)


def test_an_empty_folder_and_a_broken_file_are_named(tmp_path):
    layout = make("mlp").problem().layout
    with pytest.raises(ValueError, match="must hold snapshots of a Recorder"):
        Snapshots(tmp_path, layout)
    path = Recorder(make("mlp").model, tmp_path).record()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="must be a snapshot of a Recorder"):
        Snapshots(tmp_path, layout).at(0)


def test_the_last_step_can_be_recorded_by_hand(tmp_path):
    _, _, recorder = train(5, lambda model: Recorder(model, tmp_path, every=4))
    recorder.record()
    assert Snapshots(recorder, recorder.layout).steps == [0, 4, 5]
