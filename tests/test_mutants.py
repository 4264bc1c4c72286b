"""The list of planted bugs: every one finds its place, is Python, and has been hunted."""

import json

from tests.mutants.run import RESULTS, mutated, planted

LEAST = 150


def test_every_bug_finds_its_place():
    bugs = planted()
    assert len({bug.name for bug in bugs}) == len(bugs) >= LEAST
    for bug in bugs:
        assert bug.claim.endswith(".") and bug.old != bug.new
        compile(mutated(bug), bug.file, "exec")


def test_the_suite_catches_what_is_planted():
    """What the last hunt found, `make mutants`: 95 % or more of what is on the list, all of which it has tried."""
    known = json.loads(RESULTS.read_text())
    names = {bug.name for bug in planted() if not bug.equivalent}
    assert names == set(known["bugs"])
    caught = [name for name, found in known["bugs"].items() if found["caught_by"]]
    assert known["planted"] == len(names) and known["caught"] == len(caught) >= 0.95 * len(names)
