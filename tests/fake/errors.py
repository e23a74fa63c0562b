"""AWS's errors, as the fake raises them: code, HTTP status, message."""


class Refused(Exception):
    code = "InternalServerError"
    status = 400
    message = ""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)


class InternalError(Refused):
    status = 500
    message = "The request processing has failed because of an unknown error"


class Invalid(Refused):
    code = "ValidationException"


class NotFound(Refused):
    code = "ResourceNotFoundException"
    message = "Requested resource not found"


class InUse(Refused):
    code = "ResourceInUseException"


class Trimmed(Refused):
    code = "TrimmedDataAccessException"
    message = "The operation attempted to read past the oldest stream record in a shard"


class ExpiredIterator(Refused):
    code = "ExpiredIteratorException"
    message = "Iterator expired"


class ThrottledTable(Refused):
    code = "ProvisionedThroughputExceededException"
    message = "The level of configured provisioned throughput for the table was exceeded"


class ThrottledStream(Refused):
    code = "LimitExceededException"
    message = "Too many operations for a given subscriber"


class ExpiredToken(Refused):
    code = "ExpiredTokenException"
    message = "The security token included in the request is expired"


class Denied(Refused):
    code = "AccessDeniedException"
    message = "User is not authorized to perform this operation"


class Unknown(Refused):
    code = "UnknownOperationException"
