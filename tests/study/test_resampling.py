import numpy as np

from landscape.study.statistics.resampling import codes, permutations

ROWS = [{"rule": rule, "lr": lr, "seed": seed} for rule in "ab" for lr in (1, 2) for seed in range(3)]


def test_codes_are_the_same_where_all_columns_agree():
    assert codes(ROWS, ["rule", "lr"]).tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert codes(ROWS, []).tolist() == list(range(12))


def test_clusters_of_one_size_change_places_as_wholes():
    clusters = codes(ROWS, ["rule", "lr"])[:-1]  # the last has two networks only and keeps its place
    orders = permutations(clusters, 200, 0)
    assert (np.sort(orders, axis=1) == np.arange(11)).all()
    moved = clusters[orders]
    for order in moved:
        assert all(len(set(order[clusters == cluster])) == 1 for cluster in range(4))
    assert (moved[:, 9:] == 3).all()
    assert len({tuple(order) for order in moved}) == 6  # all orders of the other three are met
    assert len({tuple(order[9:]) for order in orders}) == 2  # and both within the last


def test_single_networks_go_anywhere():
    orders = permutations(np.arange(3), 200, 0)
    assert len({tuple(order) for order in orders}) == 6
