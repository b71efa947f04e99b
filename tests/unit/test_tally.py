from __future__ import annotations

from gsvrd.policy.tally import OTHER, Tallies, Tally


def test_a_tally_counts_what_is_at_most_each_bound_and_last_everything() -> None:
    tally = Tally((1.0, 10.0))
    for value in (0.5, 1.0, 2.0, 99.0):
        tally.note(value)
    assert tally.read() == [2, 3, 4]
    assert tally.total == 102.5


def test_names_have_a_bound_and_the_others_share_one() -> None:
    tallies = Tallies((1.0,), most=2)
    for name in ("a", "b", "c", "d", "a"):
        tallies.note(name, 0.5)
    assert {name: tally.read()[-1] for name, tally in tallies.read()} == {"a": 2, "b": 1, OTHER: 2}
