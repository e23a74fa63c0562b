"""`plan`: which sample finds which defect.

Reads: nothing. Writes: standard output. Never: AWS, the store.
"""

from pipeline import exit_codes
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.budget import least_limit
from pipeline.core.model import Side
from pipeline.core.planning import Question, plans
from pipeline.errors import UsageError
from pipeline.report.findings_text import json_line
from pipeline.report.plan_text import plan_object, plan_text


def run(process: ProcessConfig, migration: MigrationConfig) -> int:
    """Print the plan; the exit code."""
    if process.keys is None:
        raise UsageError(
            "a plan needs the number of keys", "give --keys, as DescribeTable's ItemCount says it"
        )
    terms = migration.terms()
    question = Question(
        process.keys,
        process.detect / 100,
        process.item_bytes,
        least_limit(migration.max_rcu, terms.budget, terms.prices, tuple(Side)),
        terms.prices,
    )
    if process.json:
        print(json_line(plan_object(question, plans(question))))
    else:
        print(plan_text(question, plans(question)))
    return exit_codes.FINE
