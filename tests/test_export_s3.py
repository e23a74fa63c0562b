"""Exports in a bucket, by path and by ARN, and moto's own export turned into AWS's layout."""

import gzip
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest

from pipeline.aws import Connection, SideConfig
from pipeline.core.canonical import KeySchema
from pipeline.core.comparing.keys import KeyReader
from pipeline.errors import AccessDenied, AwsError, ExportDamaged, ExportRefused, NotFound
from pipeline.producers.export.lines import read_items
from pipeline.producers.export.location import locate
from pipeline.producers.export.manifest import check_table, open_export
from tests.exports import ExportWriter, data_file
from tests.fake import Fake
from tests.fake.wire import Response, Server
from tests.servers import eventually

SCHEMA = KeySchema("pk", "S")
ITEMS = [{"pk": {"S": f"key-{number}"}, "v": {"N": str(number)}} for number in range(9)]
ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/t/export/01768385930622-efd1a093"


class S3:
    """A bucket of moto's, and a connection that finds it by the SDK's own variable."""

    def __init__(self, url: str) -> None:
        self.client = boto3.client("s3", endpoint_url=url)
        self.bucket = f"exports-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=self.bucket)

    def upload(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                self.client.upload_file(str(path), self.bucket, name)


@pytest.fixture
def s3(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_url)
    return S3(moto_url)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


@pytest.fixture
def connection(fake: Fake) -> Connection:
    return Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))


def read(given: str, connection: Connection) -> dict[bytes, Any]:
    files, start = locate(given, connection)
    export = open_export(files, start)
    found: dict[bytes, Any] = {}
    for file in export.files:
        for page in read_items(files, file, KeyReader(SCHEMA)):
            found |= zip(page.keys, map(msgspec.json.decode, page.items), strict=True)
    return found


EXPECTED = {SCHEMA.compact_of(item): item for item in ITEMS}


def test_an_export_in_a_bucket_is_read_by_its_path_or_by_what_holds_it(
    s3: S3, connection: Connection, tmp_path: Path
) -> None:
    folder = ExportWriter(prefix="a/b").full(tmp_path, ITEMS)
    s3.upload(tmp_path)
    base = f"s3://{s3.bucket}"
    for path in (
        f"/{folder.relative_to(tmp_path)}/",
        "/a",
        "",
        f"/{folder.relative_to(tmp_path)}/manifest-summary.json",
    ):
        assert read(base + path, connection) == EXPECTED


def test_a_local_folder_needs_no_bucket(connection: Connection, tmp_path: Path) -> None:
    assert read(str(ExportWriter().full(tmp_path, ITEMS)), connection) == EXPECTED


def test_an_export_is_found_by_its_arn(s3: S3, fake: Fake, connection: Connection, tmp_path: Path) -> None:
    folder = ExportWriter(prefix="p").full(tmp_path, ITEMS)
    s3.upload(tmp_path)
    manifest = str((folder / "manifest-summary.json").relative_to(tmp_path))
    described = {
        "ExportArn": ARN,
        "ExportStatus": "COMPLETED",
        "S3Bucket": s3.bucket,
        "ExportManifest": manifest,
        "ExportFormat": "DYNAMODB_JSON",
    }
    fake.world.exports[ARN] = described
    assert read(ARN, connection) == EXPECTED

    fake.world.exports[ARN] = described | {"FilterSpecification": {"FilterExpression": "a = :a"}}
    with pytest.raises(ExportRefused, match="only a part"):
        locate(ARN, connection)
    fake.world.exports[ARN] = {"ExportArn": ARN, "ExportStatus": "IN_PROGRESS", "S3Bucket": s3.bucket}
    with pytest.raises(ExportRefused, match="IN_PROGRESS"):
        locate(ARN, connection)
    with pytest.raises(NotFound):
        locate(f"{ARN}-other", connection)


def test_a_bucket_or_path_that_is_not_there_is_named(s3: S3, connection: Connection) -> None:
    for given in ("s3:///x", "s3://a bucket/x"):
        with pytest.raises(ExportRefused, match="names no bucket"):
            locate(given, connection)
    files, start = locate(f"s3://{s3.bucket}/nothing", connection)
    with pytest.raises(ExportRefused, match="no manifest"):
        open_export(files, start)
    files, start = locate(f"s3://no-such-{s3.bucket}/x", connection)
    with pytest.raises(AwsError, match="NoSuchBucket"):
        open_export(files, start)


def test_what_may_not_be_read_is_denied_and_not_missing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD answers 403 without a body, also for what is not there when listing is not allowed."""
    server = Server(lambda _: Response(403, b"", "application/xml"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    files, _ = locate("s3://bucket/x", connection)
    with pytest.raises(AccessDenied, match="s3:GetObject"):
        files.size("x")
    server.close()


def test_a_data_file_that_is_gone_from_the_bucket_is_damage(
    s3: S3, connection: Connection, tmp_path: Path
) -> None:
    data_file(ExportWriter().full(tmp_path, ITEMS)).unlink()
    s3.upload(tmp_path)
    files, start = locate(f"s3://{s3.bucket}", connection)
    with pytest.raises(ExportDamaged, match="is missing"):
        open_export(files, start)


def test_motos_own_export_turned_into_the_layout_is_read(
    s3: S3, moto_url: str, connection: Connection, tmp_path: Path
) -> None:
    """moto writes one object without manifests; its lines are what an export holds."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    dynamodb = boto3.client("dynamodb", endpoint_url=moto_url)
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for item in ITEMS:
        dynamodb.put_item(TableName=name, Item=item)
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    arn = dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
    dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket=s3.bucket, S3Prefix="moto")

    def written() -> list[Any]:
        return s3.client.list_objects_v2(Bucket=s3.bucket, Prefix="moto").get("Contents", [])

    [found] = eventually(written, what="moto's export")
    content = s3.client.get_object(Bucket=s3.bucket, Key=found["Key"])["Body"].read()
    items = [msgspec.json.decode(line)["Item"] for line in gzip.decompress(content).splitlines()]
    ExportWriter(prefix="made", table_arn=arn).full(tmp_path, items)
    s3.upload(tmp_path)

    files, start = locate(f"s3://{s3.bucket}/made", connection)
    check_table(open_export(files, start), arn, None)
    assert read(f"s3://{s3.bucket}/made", connection) == EXPECTED


def test_files_are_looked_for_by_listing_their_folder_once(
    s3: S3, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export may have fifty thousand: asking for each takes longer than a process may take to start."""
    folder = ExportWriter(prefix="p", files=40).full(tmp_path, ITEMS * 10)
    s3.upload(tmp_path)
    asked: list[str] = []
    ask = Connection.ask

    def counting(self: Connection, service: str, method: str, **params: Any) -> dict[str, Any]:
        asked.append(method)
        return ask(self, service, method, **params)

    monkeypatch.setattr(Connection, "ask", counting)
    files, start = locate(f"s3://{s3.bucket}/{folder.relative_to(tmp_path)}", connection)
    export = open_export(files, start)
    assert len(export.files) == 41 and export.size == sum(
        path.stat().st_size for path in (folder / "data").iterdir()
    )
    assert len(asked) <= 12
