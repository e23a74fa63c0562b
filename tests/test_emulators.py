"""The main job against DynamoDBs that others wrote: moto over HTTP, Amazon's DynamoDB Local (of 2020 and of
today), and dynalite, which has no streams and is a target only.

Systems of one group are planted and started together, so that they are waited for at the same time.
"""

import base64
import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.servers import eventually
from tests.system import REGION, Item, RealTable, System, balanced, string_key

#: What DynamoDB takes since 2020, and the older DynamoDB Local refuses.
EMPTY: Item = {"empty": {"S": ""}, "no_bytes": {"B": ""}, "nothing": {"M": {}}, "none": {"L": []}}
#: Every type of attribute, nested as well; both sides hold it, each emulator in its own spelling.
ALSO: Item = {
    "tags": {"SS": ["b", "a", "ü"]},
    "numbers": {"NS": ["3", "1.5", "-20"]},
    "price": {"N": "12.50"},
    "blob": {"B": base64.b64encode(b"\x00\xff\x10").decode()},
    "gone": {"NULL": True},
    "on": {"BOOL": False},
    "address": {"M": {"city": {"S": "Łódź"}, "floors": {"L": [{"N": "0"}, {"S": " "}]}}},
}


def number_key(name: str) -> Item:
    return {"pk": {"N": _number(name)}}


def binary_key(name: str) -> Item:
    return {"pk": {"B": base64.b64encode(b"\x00\xfe" + name.encode()).decode()}}


def composite_key(name: str) -> Item:
    """Three sort keys a partition; numbers of which the text order is not the order."""
    return {"pk": {"S": f"p{int(_number(name)) // 3}"}, "sk": {"N": _number(name)}}


def _number(name: str) -> str:
    return name.rpartition("-")[2]


@dataclass(frozen=True)
class Keys:
    types: dict[str, str]
    of: Callable[[str], Item]


KEYS = {
    "string": Keys({"pk": "S"}, string_key),
    "number": Keys({"pk": "N"}, number_key),
    "binary": Keys({"pk": "B"}, binary_key),
    "composite": Keys({"pk": "S", "sk": "N"}, composite_key),
}


@dataclass(frozen=True)
class Outcome:
    """What the program said, and what it should have said; read when every change was judged."""

    findings: dict[str, str]
    truth: dict[str, str]
    status: dict[str, Any]


class Group:
    """Systems that run at the same time."""

    def __init__(self, directory: Path, redis_url: str, source_url: str, target_url: str) -> None:
        self._directory, self._redis_url = directory, redis_url
        self._urls = source_url, target_url
        self.systems: dict[str, System] = {}

    def add(
        self,
        name: str,
        keys: Keys,
        *,
        verify_on: str = "target",
        view: str = "NEW_AND_OLD_IMAGES",
        also: Item = ALSO,
        target_url: str = "",
    ) -> None:
        """also: attributes of every item. target_url: another server for the target."""
        unique = uuid.uuid4().hex[:8]
        urls = self._urls[0], target_url or self._urls[1]
        views = (view, None) if verify_on == "target" else (None, view)
        source, target = (
            RealTable(url, f"{side}-{unique}", keys.types, shown)
            for url, side, shown in zip(urls, ("source", "target"), views, strict=True)
        )
        self.systems[name] = System(
            *(self._directory, self._redis_url, source, target, f"{name.replace(' ', '-')}-{unique}"),
            *("--workers", "1", "--in-flight", "2"),
            key=keys.of,
            also=also,
            verify_on=verify_on,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for system in self.systems.values():
                stack.enter_context(system.running())
            for system in self.systems.values():
                eventually(lambda system=system: system.store.ledger().records_read, 60)  # type: ignore[misc]
            yield

    def outcomes(self) -> dict[str, Outcome]:
        found = {}
        for name, system in self.systems.items():
            status = eventually(system.at_rest, 150, name)
            found[name] = Outcome(system.findings(), system.truth(), status)
        return found


def plant(system: System, numbers: Iterable[int]) -> None:
    """Inserts, updates and deletes; two of three keys are faulty, each fault by the key's number."""
    for number in numbers:
        name = f"k-{number}"
        system.write(name, "first")
        if number % 6 == 0:
            system.write(name, "second")
        elif number % 6 == 1:
            system.write(name, None)
        elif number % 6 == 2:
            system.write(name, "second", replica=None)  # missing
        elif number % 6 == 3:
            system.write(name, "second", replica="wrong")  # different
        elif number % 6 == 4:
            system.write(name, "second", replica="none")  # stale
        else:
            system.write(name, None, replica="none")  # extra


def plant_for_the_source(system: System, numbers: Iterable[int]) -> None:
    """The same where the target's stream is read: what is found is what the target made a record of."""
    for number in numbers:
        name = f"k-{number}"
        if number % 6 == 0:
            system.write(name, "first")
            system.write(name, "second")
        elif number % 6 == 1:
            system.write(name, "first")
            system.write(name, None)
        elif number % 6 == 2:
            system.write(name, "first")
            system.replicate(name, None)  # missing
        elif number % 6 == 3:
            system.write(name, "first", replica="wrong")  # different
        elif number % 6 == 4:
            system.write(name, "first", replica="none")
            system.write(name, "second")
            system.replicate(name, "first")  # stale: the older write came last
        else:
            system.write(name, "first", replica="none")
            system.write(name, None, replica="first")  # extra


# --- moto ---------------------------------------------------------------------------------------------------

#: Keys, stream view and direction. moto writes the binary keys of its stream records in base64 twice: they
#: are tested against DynamoDB Local and against our own fake.
CASES = {
    "string keys": ("string", "NEW_AND_OLD_IMAGES", "target"),
    "number keys": ("number", "NEW_IMAGE", "target"),
    "composite keys": ("composite", "KEYS_ONLY", "target"),
    "old images": ("string", "OLD_IMAGE", "target"),
    "verify on source": ("composite", "NEW_AND_OLD_IMAGES", "source"),
}
#: Views that do not show new images: an older version cannot always be told from a wrong value.
VAGUE = {"OLD_IMAGE", "KEYS_ONLY"}


@pytest.fixture(scope="module")
def on_moto(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str, moto_url: str, other_moto_url: str
) -> dict[str, Outcome]:
    """Half of the changes are made before the program starts, half while it reads."""
    group = Group(tmp_path_factory.mktemp("on-moto"), valkey_url, moto_url, other_moto_url)
    for name, (keys, view, verify_on) in CASES.items():
        group.add(name, KEYS[keys], view=view, verify_on=verify_on)
    plants = {name: plant if case[2] == "target" else plant_for_the_source for name, case in CASES.items()}
    for name, system in group.systems.items():
        plants[name](system, range(12))
    with group.running():
        for name, system in group.systems.items():
            plants[name](system, range(12, 24))
        return group.outcomes()


@pytest.mark.parametrize("case", CASES)
def test_on_moto_findings_are_the_planted_truth(on_moto: dict[str, Outcome], case: str):
    outcome, (_, view, verify_on) = on_moto[case], CASES[case]
    if view in VAGUE:
        assert outcome.findings.keys() == outcome.truth.keys()
        certain = {key: kind for key, kind in outcome.truth.items() if kind != "stale"}
        assert certain.items() <= outcome.findings.items()
    else:
        assert outcome.findings == outcome.truth
    assert balanced(outcome.status)
    assert (outcome.status["success"]["keys"], len(outcome.truth)) == (24, 16)
    assert outcome.status["verify_on"] == verify_on


# --- DynamoDB Local -----------------------------------------------------------------------------------------


def outcomes_on_local(group: Group) -> dict[str, Outcome]:
    """Its creation times are whole minutes, so every deadline may be over as soon as it begins, and a replica
    that is a millisecond late could be called wrong. So the faults are planted before the program starts;
    while it reads, the target is written first (as a backfill that is ahead of the stream does).
    """
    for system in group.systems.values():
        plant(system, range(12))
    with group.running():
        for system in group.systems.values():
            for number in range(12, 18):
                system.replicate(f"k-{number}", "first")
                system.write(f"k-{number}", "first")
        return group.outcomes()


def assert_planted(outcome: Outcome) -> None:
    assert outcome.findings == outcome.truth
    assert outcome.status["open"] == {"missing": 2, "different": 2, "stale": 2, "extra": 2}
    assert balanced(outcome.status)
    assert outcome.status["success"]["keys"] == 18


@pytest.fixture(scope="module")
def on_dynamodb_local(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str, dynamodb_local_url: str
) -> dict[str, Outcome]:
    directory = tmp_path_factory.mktemp("on-dynamodb-local")
    group = Group(directory, valkey_url, dynamodb_local_url, dynamodb_local_url)
    for name, keys in KEYS.items():
        group.add(name, keys)
    return outcomes_on_local(group)


@pytest.mark.parametrize("keys", KEYS)
def test_on_dynamodb_local_findings_are_the_planted_truth(on_dynamodb_local: dict[str, Outcome], keys: str):
    assert_planted(on_dynamodb_local[keys])


#: Keys, and whose the target is.
CURRENT_CASES = {
    "number keys": ("number", "its own"),
    "composite keys": ("composite", "its own"),
    "string keys to dynalite": ("string", "dynalite"),
    "binary keys to dynalite": ("binary", "dynalite"),
    "string keys to the older one": ("string", "older"),
}


@pytest.fixture(scope="module")
def on_current_dynamodb_local(
    tmp_path_factory: pytest.TempPathFactory,
    valkey_url: str,
    current_dynamodb_local_url: str,
    dynamodb_local_url: str,
    dynalite_url: str,
) -> dict[str, Outcome]:
    directory = tmp_path_factory.mktemp("on-current-dynamodb-local")
    group = Group(directory, valkey_url, current_dynamodb_local_url, current_dynamodb_local_url)
    targets = {"its own": current_dynamodb_local_url, "dynalite": dynalite_url, "older": dynamodb_local_url}
    for name, (keys, target) in CURRENT_CASES.items():
        also = ALSO if target == "older" else ALSO | EMPTY
        group.add(name, KEYS[keys], also=also, target_url=targets[target])
    return outcomes_on_local(group)


@pytest.mark.parametrize("case", CURRENT_CASES)
def test_on_a_current_dynamodb_local_findings_are_the_planted_truth(
    on_current_dynamodb_local: dict[str, Outcome], case: str
):
    assert_planted(on_current_dynamodb_local[case])


def test_what_a_current_dynamodb_local_deletes_by_ttl_is_deleted_on_both_sides(
    tmp_path: Path, valkey_url: str, current_dynamodb_local_url: str
) -> None:
    """Its deletions stand in the stream, as AWS's do; the target's own TTL empties the target."""
    group = Group(tmp_path, valkey_url, current_dynamodb_local_url, current_dynamodb_local_url)
    now = int(time.time())
    group.add("ttl", KEYS["string"], also={"expires": {"N": str(now + 4)}})
    [system] = group.systems.values()
    client = boto3.client("dynamodb", endpoint_url=current_dynamodb_local_url, region_name=REGION)
    specification = {"Enabled": True, "AttributeName": "expires"}
    for table in system.tables:
        client.update_time_to_live(TableName=table.name, TimeToLiveSpecification=specification)
    for number in range(6):
        system.write(f"k-{number}", "first")
    with group.running():
        for table in system.tables:
            eventually(lambda table=table: not client.scan(TableName=table.name)["Items"], 60)  # type: ignore[misc]
        system.writes *= 2  # a deletion each
        system.source |= dict.fromkeys(system.source)
        system.target |= dict.fromkeys(system.target)
        outcome = group.outcomes()["ttl"]
    assert outcome.findings == {}
    assert balanced(outcome.status)
    assert outcome.status["success"]["keys"] == 6
