"""What a paper claims beside what a script found: a row of the reproductions page, a part of a figure's sentence."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from landscape.checks import one_of

VERDICTS = ("agrees", "differs", "cannot say")


@dataclass(frozen=True)
class Claim:
    """One claim, and the verdict that the numbers allow."""

    paper: str  # authors, year, section, table or figure
    claim: str
    found: str  # our number with its interval, and on what
    verdict: str  # of VERDICTS
    at: str = ""  # the condition, where one claim was looked at under several: "at 20 % wrong labels"

    def __post_init__(self) -> None:
        one_of("verdict", self.verdict, VERDICTS)


def told(claims: Iterable[Claim]) -> str:
    """The claims as sentences, one a paper for those that follow one another."""
    return " ".join(
        f"{paper}: {'; '.join(_told_at(name, own) for name, own in groupby(group, lambda own: own.claim))}."
        for paper, group in groupby(claims, lambda own: own.paper)
    )


def _told_at(claim: str, group: Iterable[Claim]) -> str:
    """One claim, once for all conditions."""
    return f"{claim}: {', '.join(f'{own.at} {own.verdict}, {own.found}'.strip() for own in group)}"


def points(found: Iterable[float], unit: str = " points", digits: int = 1) -> str:
    """A mean and its interval with their signs: "+1.2 [+0.3, +2.1] points"."""
    mean, low, high = (f"{value:+.{digits}f}" for value in found)
    return f"{mean} [{low}, {high}]{unit}"


def said(found: Iterable[float], digits: int = 2) -> str:
    """A mean and its interval: "0.99 [0.95, 1.03]"."""
    mean, low, high = (f"{value:.{digits}f}" for value in found)
    return f"{mean} [{low}, {high}]"
