"""What gateways, proxies and half broken endpoints answer in AWS's stead: whole HTTP answers, by name.

Reads: nothing. Writes: nothing. `Fake.control.say` sends them.
"""

import gzip
import json

HTML = "<!DOCTYPE html><html><body><h1>Bad Gateway</h1></body></html>"
_GZIPPED = gzip.compress(HTML.encode()).decode("latin-1")
_AWS = "application/x-amz-json-1.0"
_CLOSE = "Connection: close"
_DEEP = 20_000


def http(status: int, body: str, kind: str = _AWS, *headers: str, length: int | None = None) -> str:
    """One answer; length: a Content-Length that lies."""
    length = len(body) if length is None else length
    head = [f"HTTP/1.1 {status} Odd", f"Content-Type: {kind}", f"Content-Length: {length}", _CLOSE, *headers]
    return "\r\n".join(head) + "\r\n\r\n" + body


def _error(**fields: object) -> str:
    return http(400, json.dumps(fields))


#: Answers that are errors, but none of AWS's.
REFUSALS = {
    "a text": http(502, '"bad gateway"'),
    "null": http(502, "null"),
    "a list": http(502, "[]"),
    "a number": http(500, "17"),
    "nothing at all": http(502, ""),
    "HTML": http(502, HTML, "text/html"),
    "HTML that is not UTF-8": http(502, "<!DOCTYPE html>\xe9", "text/html"),
    "a gzipped page": http(503, _GZIPPED, "text/html", "Content-Encoding: gzip"),
    "half a gzipped page": http(503, _GZIPPED[:20], "text/html", "Content-Encoding: gzip"),
    "a type that is a number": _error(__type=5),
    "a type that is null": _error(__type=None),
    "a type that is an object": _error(__type={"a": ["b"]}),
    "an empty type": _error(__type=""),
    "a type that is a sentence": _error(__type="What is this? I do not know."),
    "an empty object": http(400, "{}"),
    "an object cut short": http(500, '{"__type":"com.amazon#Thrott'),
    "a deep object": http(502, '{"message":' * _DEEP + "1" + "}" * _DEEP),
    "a deep list": http(502, "[" * _DEEP),
    "a captive portal": http(403, HTML, "text/html"),
    "a redirect": http(302, "", "text/html", "Location: https://login.example/"),
    "an error cut short": http(502, HTML, "text/html", length=10_000),
    "chunks cut short": (
        "HTTP/1.1 502 Odd\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n<html>"
    ),
    "a page of 2 MB": http(502, HTML * 40_000, "text/html"),
    "no HTTP": "220 mail.example ESMTP\r\n",
}

#: Successful answers that hold nothing readable, whatever was asked.
PAGES = {
    "HTML": http(200, HTML, "text/html"),
    "HTML as JSON": http(200, HTML),
    "nothing": http(200, ""),
    "no content": f"HTTP/1.1 204 Odd\r\n{_CLOSE}\r\n\r\n",
    "not UTF-8": http(200, '{"\xe9": 1}'),
    "gzipped": http(200, gzip.compress(b"{}").decode("latin-1"), _AWS, "Content-Encoding: gzip"),
    "null": http(200, "null"),
    "a list": http(200, "[]"),
    "a deep list": http(200, "[" * _DEEP),
    "a deep object": http(200, '{"x":' * _DEEP + "1" + "}" * _DEEP),
    "cut short": http(200, '{"Responses":{', length=9_000),
    "chunks cut short": (
        f"HTTP/1.1 200 Odd\r\nContent-Type: {_AWS}\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{{"
    ),
    "another length": http(200, '{"Responses":{"t":[]},"UnprocessedKeys":{}}', length=20),
}


#: BatchGetItem about table "t": JSON that DynamoDB never sends. What it leaves out is not absent.
READS = {
    "no table": '{"Responses":{},"UnprocessedKeys":{}}',
    "no responses": '{"UnprocessedKeys":{}}',
    "no unprocessed keys": '{"Responses":{"t":[]}}',
    "responses null": '{"Responses":null,"UnprocessedKeys":{}}',
    "table null": '{"Responses":{"t":null},"UnprocessedKeys":{}}',
    "unprocessed keys null": '{"Responses":{"t":[]},"UnprocessedKeys":null}',
    "another table": '{"Responses":{"other":[]},"UnprocessedKeys":{}}',
    "another table as well": '{"Responses":{"t":[],"other":[]},"UnprocessedKeys":{}}',
    "another table unprocessed": '{"Responses":{"t":[]},"UnprocessedKeys":{"other":{"Keys":[]}}}',
    "some unprocessed, no table": (
        '{"Responses":{},"UnprocessedKeys":{"t":{"Keys":[{"pk":{"S":"item-00000001"}}]}}}'
    ),
    "an unprocessed key nobody asked for": (
        '{"Responses":{"t":[]},"UnprocessedKeys":{"t":{"Keys":[{"pk":{"S":"stranger"}}]}}}'
    ),
    "an item nobody asked for": '{"Responses":{"t":[{"pk":{"S":"stranger"}}]},"UnprocessedKeys":{}}',
    "an item without its key": '{"Responses":{"t":[{"x":{"S":"1"}}]},"UnprocessedKeys":{}}',
    "a key of another type": '{"Responses":{"t":[{"pk":{"N":"1"}}]},"UnprocessedKeys":{}}',
    "a key that is null": '{"Responses":{"t":[{"pk":null}]},"UnprocessedKeys":{}}',
    "an item that is a text": '{"Responses":{"t":["item"]},"UnprocessedKeys":{}}',
    "a deep item": '{"Responses":{"t":[' + '{"pk":' * _DEEP + "1" + "}" * _DEEP + ']},"UnprocessedKeys":{}}',
    "boundless units": (
        '{"Responses":{"t":[]},"UnprocessedKeys":{},"ConsumedCapacity":[{"CapacityUnits":1e300}]}'
    ),
    "units below none": (
        '{"Responses":{"t":[]},"UnprocessedKeys":{},"ConsumedCapacity":[{"CapacityUnits":-1e300}]}'
    ),
}


def record(**changes: object) -> str:
    """A GetRecords answer of one record; changes: of its `dynamodb` part, None = left out."""
    part = {
        "Keys": {"pk": {"S": "a"}},
        "SequenceNumber": "1",
        "ApproximateCreationDateTime": 1_700_000_000,
        **changes,
    }
    part = {name: value for name, value in part.items() if value is not None}
    return json.dumps({"Records": [{"eventName": "INSERT", "dynamodb": part}], "NextShardIterator": "next"})


#: GetRecords: JSON that DynamoDB never sends.
RECORDS = {
    "no records": "{}",
    "records null": '{"Records":null}',
    "a creation time beyond all": record(ApproximateCreationDateTime=1e308),
    "a creation time before all": record(ApproximateCreationDateTime=-5),
    "a creation time in ms": record(ApproximateCreationDateTime=1_700_000_000_000),
    "an unknown event": record().replace("INSERT", "UPSERT" * 100),
    "no sequence number": record(SequenceNumber=None),
    "a sequence number of another type": record(SequenceNumber=5),
    "no keys": record(Keys=None),
    "an iterator of another type": record().replace('"next"', "5"),
}
