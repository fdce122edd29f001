"""A training run that never was: a problem, and snapshots of it at given places."""

from cases import make

from landscape.slices import Recorder
from landscape.vectors import assign


def recorded(folder, offsets, parameters=None):
    """A problem and its snapshots at w + each row of offsets; the network ends at w."""
    case = make("mlp")
    problem = case.problem(parameters=parameters)
    own = dict(case.model.named_parameters())
    chosen = [own[name] for name in problem.layout.names]
    w = problem.vector()
    assign(chosen, w + offsets[0])
    recorder = Recorder(case.model, folder, parameters=parameters)
    for row in offsets[1:]:
        assign(chosen, w + row)
        recorder.step()
    assign(chosen, w)
    return problem, recorder
