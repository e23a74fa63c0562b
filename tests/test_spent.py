"""What a process has asked of AWS and the store has not counted yet: taken once, or given back."""

from pipeline.core.cost import field
from pipeline.metrics.spent import Spent


def test_what_is_billed_is_counted_until_it_is_taken() -> None:
    spent = Spent()
    for operation, units in (("Scan", 1.5), ("Scan", 0.5), ("DescribeTable", 3.0)):
        spent.answered("source", operation)
        spent.consumed("source", operation, units)
    assert spent.take() == {field("source", "Scan", "requests"): 2, field("source", "Scan", "half_units"): 4}
    assert spent.take() == {}


def test_what_the_store_could_not_be_told_is_told_with_what_came_since() -> None:
    spent = Spent()
    spent.answered("target", "BatchGetItem")
    taken = spent.take()
    spent.answered("target", "BatchGetItem")
    spent.give_back(taken)
    assert spent.take() == {field("target", "BatchGetItem", "requests"): 2}
