"""The page of claims: sorted by paper, counted, and no figure is without a claim or a reason."""

import json
import re
from collections import Counter
from pathlib import Path

from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.not_made import NOT_MADE
from analysis_scripts.reproductions import FIGURES, NO_CLAIM, Row, counts, page, rows

ROOT = Path(__file__).parents[2]
OURS = [
    {"paper": "Able 2020, table 2", "claim": "a|b", "found": "1", "verdict": "agrees"},
    {"paper": "Able 2020, figure 1", "claim": "c", "found": "2", "verdict": "differs"},
]


def test_rows_lie_below_their_paper_in_order_and_are_counted(tmp_path):
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "a.json").write_text(json.dumps({"claims": OURS, "cpu_seconds": 90}))
    text = page(tmp_path)
    first = text.index("## Able 2020\n")
    assert first < text.index("| figure 1 | c | 2 | differs | script | 1.5 |") < text.index("| table 2 | a\\|b |")
    assert first < text.index("## Foret et al. 2021\n")
    told = f'{2 + len(NOT_MADE)} claims: "agrees" 1, "differs" 1, "cannot say" 0; not made {len(NOT_MADE)}.'
    assert text.splitlines()[2] == told


def test_what_was_not_made_counts_as_that():
    open_claim = Claim("a, b", "c", "d", "cannot say")
    assert counts([Row(open_claim), Row(open_claim, "s")]).endswith('"cannot say" 1; not made 1.')


def test_what_was_not_made_is_said_once_with_its_reason_and_without_a_verdict():
    assert max(Counter(own.paper for own in NOT_MADE).values()) == 1
    assert all(own.found.startswith("not made: ") and own.verdict == "cannot say" for own in NOT_MADE)
    made = {row.claim.paper for row in rows(ROOT / FIGURES) if row.script != "—"}
    assert not made & {own.paper for own in NOT_MADE}


def test_captions_say_of_which_networks_and_data_they_are():
    told = {}
    for file in (ROOT / FIGURES).glob("*/*.json"):
        content = json.loads(file.read_text())
        trained = isinstance(content, dict) and "runs" in content.get("config", {})
        if trained and "sentence" in content and file.name != "verdict.json":  # a study's page says it
            told[f"{file.parent.name}/{file.stem}"] = content["sentence"].split(" et al.")[0]
    assert len(told) > 15
    networks, data = (
        re.compile("perceptron|resnet|vit|network|settings|regression", re.I),
        re.compile("digits|data set|settings|tables|labels", re.I),
    )
    assert [name for name, said in told.items() if not (networks.search(said) and data.search(said))] == []


def test_every_figure_has_a_claim_or_a_reason_why_not():
    claimed = {row.script for row in rows(ROOT / FIGURES)}
    for script in (ROOT / "analysis_scripts").glob("*/*.py"):  # one whose figure is still to be made anew
        if "claims=claims(" in script.read_text():
            claimed.add(script.stem)
    folders = {file.parent.name for file in (ROOT / FIGURES).glob("*/*.json")}
    assert folders - claimed <= NO_CLAIM.keys()
    assert NO_CLAIM.keys() <= folders
