"""The AWS edge: files in a bucket, read through boto3's own client.

Reads: S3 (`AWS_ENDPOINT_URL_S3` leads it elsewhere, as it does every boto3 program). Writes: nothing. Never:
retries, files. An object is read as a stream and never held whole.

Read in the contract of `producers/export/files.Files`.
"""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws.connection import Connection
from pipeline.aws.errors import FOREIGN, translate
from pipeline.aws.paging import Pages
from pipeline.errors import AccessDenied, AwsError, NotFound

CHUNK_BYTES = 256 * 1024
_HTTP_NOT_FOUND, _HTTP_FORBIDDEN = 404, 403


class Bucket:
    """One bucket, as one side's credentials reach it. Thread-safe."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._listings: dict[tuple[str, str], Pages[tuple[str, int]]] = {}

    def size(self, path: str) -> int | None:
        """Bytes of an object, None where there is none. Raises AccessDenied and the other AwsErrors."""
        try:
            return int(self._ask("head_object", Key=path)["ContentLength"])
        except AwsError as error:
            # The answer to HEAD has no body, so its status is all that is said.
            status = _status(error)
            if status == _HTTP_NOT_FOUND:
                return None
            if status == _HTTP_FORBIDDEN:
                raise AccessDenied(
                    f"{self.shown(path)}: may not be read, or is not there and may not be looked for",
                    "allow s3:GetObject on it and s3:ListBucket on the bucket",
                ) from error
            raise

    def chunks(self, path: str) -> Iterator[bytes]:
        """An object's content. Raises NotFound, and AwsUnavailable when the connection ends in the middle."""
        try:
            body = self._ask("get_object", Key=path)["Body"]
        except AwsError as error:
            if _status(error) == _HTTP_NOT_FOUND:
                raise NotFound(f"{self.shown(path)}: is missing") from error
            raise
        try:
            yield from body.iter_chunks(CHUNK_BYTES)
        except FOREIGN as error:
            raise translate(error, self._connection.config.side, "GetObject") from error
        finally:
            body.close()

    def find(self, folder: str, name: str) -> list[str]:
        """Every object of that name in the folder and below it; after a refusal the next call goes on."""
        return [path for path, _ in self._listed(folder) if path.rpartition("/")[2] == name]

    def sizes(self, folder: str) -> dict[str, int]:
        """Every object right in the folder, by path: its bytes. A thousand take one request."""
        return dict(self._listed(folder, "/"))

    def _listed(self, folder: str, delimiter: str = "") -> list[tuple[str, int]]:
        """delimiter "/": without what lies deeper."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        listing = self._listings.setdefault(
            (prefix, delimiter),
            Pages("ListObjectsV2", lambda after: self._list(prefix, delimiter, after)),
        )
        return listing.all()

    def _list(
        self, prefix: str, delimiter: str, after: str | None
    ) -> tuple[list[tuple[str, int]], str | None]:
        mark = {} if after is None else {"ContinuationToken": after}
        page = self._ask("list_objects_v2", Prefix=prefix, Delimiter=delimiter, **mark)
        following = page["NextContinuationToken"] if page.get("IsTruncated") else None
        return [(each["Key"], each["Size"]) for each in page.get("Contents", [])], following

    def shown(self, path: str) -> str:
        return f"s3://{self._name}/{path}"

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._connection.ask("s3", method, Bucket=self._name, **params)


def _status(error: AwsError) -> int:
    cause = error.__cause__
    answer = cause.response if isinstance(cause, ClientError) else {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
