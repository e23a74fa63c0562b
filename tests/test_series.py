"""How many series a real run exports: a hundred migrations must fit into one small Prometheus."""

import urllib.request
import uuid
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, System

#: Of everything that says `migration`, in a whole run; and of one more process, for whatever it says.
MOST_A_MIGRATION, MOST_A_PROCESS = 400, 150


def exported(system: System, role: str) -> dict[str, Counter[str]]:
    """Of one port: the series of each metric, those of the migration and all."""
    log = system.log if role == "run" else system.log.with_suffix(f".{role}.log")
    url = next(
        line.split('"url": "')[1].split('"')[0]
        for line in log.read_text().splitlines()
        if "metrics served" in line
    )
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        "migration": Counter(sample.name for sample in found if "migration" in sample.labels),
        "all": Counter(sample.name for sample in found),
    }


def test_a_migration_and_a_process_export_few_series(tmp_path: Path, store_url: str) -> None:
    with FakeProcess() as fake:
        fake.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=12)
        fake.steer("create_table", name="target")
        tables = FakeTable(fake, "source"), FakeTable(fake, "target")
        system = System(tmp_path, store_url, *tables, f"series-{uuid.uuid4().hex[:12]}", "--workers", "2")
        with system.running(), system.running("validator"):
            for number in range(20):
                system.write(f"k{number}", "value")
            eventually(system.at_rest, 60)
            of_run = exported(system, "run")["migration"]
            of_validator = eventually(lambda: exported(system, "validator"))["all"]
    assert sum(of_run.values()) <= MOST_A_MIGRATION, of_run.most_common(12)
    assert sum(of_validator.values()) <= MOST_A_PROCESS, of_validator.most_common(12)
    assert of_run["ddbmm_partition_lag_seconds"] == 10
    # Two tables and the stream: the data, and everything else.
    assert of_run["ddbmm_aws_request_duration_seconds_count"] == 6
