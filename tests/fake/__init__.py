"""A fake DynamoDB, DynamoDB Streams and STS over HTTP, that splits, trims, throttles and lies on order."""

from tests.fake.control import Control
from tests.fake.faults import Kind
from tests.fake.process import FakeProcess
from tests.fake.server import Fake

__all__ = ["Control", "Fake", "FakeProcess", "Kind"]
