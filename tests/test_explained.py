"""The words of an explanation, for histories of every kind: the rule is asked, and what it says is told."""

import random

import pytest

from pipeline.commands.explain import _past, _proof
from pipeline.core.budget import InUse
from pipeline.core.judging.history import FindingChange, HeldLook, History, fault_of
from pipeline.core.judging.rule import judge
from pipeline.core.model import ABSENT, UNKNOWN, Look, Moment, Phase, Policy, VerdictKind
from pipeline.core.outline import outline
from pipeline.report.explained import MEANINGS, Evidence, Explanation, SideSeen, explanation
from pipeline.report.explained_text import explanation_text

NOW_MS = 1_795_435_200_000
DIGESTS = (ABSENT, UNKNOWN, b"a" * 16, b"b" * 16, b"c" * 16)


def drawn(chance: random.Random) -> History:
    """A history that a look or a publish can have left."""
    while True:
        count = chance.randrange(1, 5)
        times = sorted(NOW_MS - chance.choice((1_000, 30_000, 90_000, 900_000)) for _ in range(count))
        phase = chance.choice(list(Phase))
        lo = count if phase is Phase.SETTLING else chance.randrange(count)
        look = Look(
            chance.choice(DIGESTS), NOW_MS - 5_000, count - 1, strong=True, witness=chance.choice(DIGESTS)
        )
        history = History(
            versions=tuple((chance.choice(DIGESTS), at_ms) for at_ms in times),
            lo=lo,
            phase=phase,
            kind=chance.choice(list(MEANINGS)) if phase is Phase.ALARMED else None,
            alarmed=chance.randrange(3) if phase is Phase.ALARMED else 0,
            excused=chance.randrange(3) if phase is Phase.EXCUSED else 0,
            excused_since_ms=NOW_MS - 60_000 if phase is Phase.EXCUSED else 0,
            settle=chance.random() < 0.5,
            incomplete=chance.random() < 0.3,
            suspect=count == 1 and chance.random() < 0.3,
            held=HeldLook(look, NOW_MS - 9_000) if phase is Phase.WAITING and chance.random() < 0.5 else None,
        )
        if not fault_of(history):
            return history


def evidence(chance: random.Random) -> Evidence:
    policy = Policy(60_000, 30_000, leads=chance.random() < 0.3)
    gap_ms = NOW_MS - 60_000 if chance.random() < 0.2 else 0
    moment = Moment(NOW_MS, watermark_ms=NOW_MS - chance.choice((0, 3_000, 90_000)), gap_ms=gap_ms)
    history = drawn(chance)
    verified, witness = (chance.choice(DIGESTS[:1] + DIGESTS[2:]) for _ in "st")
    ttl = chance.random() < 0.2
    look = Look(
        digest=verified,
        at_ms=NOW_MS - 100,
        seen=history.newest,
        strong=True,
        witness=witness,
        verified_expires=ttl,
        witness_expires=ttl,
        answered_ms=NOW_MS,
    )
    source, target = (verified, witness) if policy.leads else (witness, verified)
    return Evidence(
        key="7125fdeb3317fb24",
        policy=policy,
        moment=moment,
        sample=InUse(100.0, 0, None),
        sampled=True,
        dead=False,
        source=SideSeen(source),
        target=SideSeen(target),
        outline=outline({}, {}),
        history=history,
        moved=False,
        due_ms=NOW_MS + 1_000,
        finding=None,
        closed=[],
        proof=_proof(history, look, moment, policy),
        judgement=judge(history, look, moment, policy),
        later=judge(history, look, _past(look, moment), policy),
    )


def by_the_rule(told: Explanation) -> str:
    [said] = [one for one in told.concluded if one.startswith("By the rule")]
    return said


@pytest.mark.parametrize("seed", range(1_000))
def test_what_is_told_is_what_the_rule_says(seed: int) -> None:
    asked = evidence(random.Random(seed))
    told = explanation(asked)
    said, judgement = by_the_rule(told), asked.judgement
    assert judgement is not None
    assert not judgement.escalate
    if judgement.finding is FindingChange.OPENED:
        assert "this is a mismatch" in said
        assert str(judgement.history and judgement.history.kind) in said
    elif judgement.finding is FindingChange.UPDATED:
        assert "the finding stays open" in said
    elif judgement.verdict is VerdictKind.MATCH:
        assert "a match" in said or "recovered" in said
    else:
        assert "this is a mismatch" not in said
    if "are a match" in said:
        assert (
            judgement.verdict is VerdictKind.MATCH
            or asked.history is None
            or asked.history.phase is Phase.SETTLING
        )
    text = explanation_text(told, str(told.key))
    assert all(len(line) <= 80 for line in text.partition("history")[0].splitlines())
    assert (told.answer.startswith("both sides hold the same")) == (
        asked.source.digest == asked.target.digest
    )
