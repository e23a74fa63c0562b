# By tag alone: the digest of an image can only be read where a registry can be reached. To pin it, take it from
# `docker buildx imagetools inspect python:3.13-slim-trixie` and write it behind the tag, in all places.
FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13-slim-trixie AS base
ARG VERSION=0.0.0+unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dynamodb-migration-monitor" \
      org.opencontainers.image.description="Tells continuously whether a DynamoDB migration's target equals its source" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Any other uid works too (compose sets the one that owns ~/.aws): nothing but HOME's .aws is read there.
RUN useradd --uid 10001 --create-home --home-dir /home/monitor --shell /usr/sbin/nologin monitor \
    && chmod 0755 /home/monitor
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/home/monitor \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DDBMM_BIND_ADDRESS=0.0.0.0 \
    DDBMM_METRICS_PORT=9464 \
    DDBMM_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/monitor
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["dynamodb-migration-monitor"]
CMD ["run"]

# `docker build --target demo`: with the emulator that `demo` and the compose profile of that name play DynamoDB by.
FROM build AS build-demo
COPY requirements-demo.lock ./
RUN /opt/venv/bin/pip install --require-hashes --no-deps -r requirements-demo.lock

FROM base AS demo
COPY --from=build-demo /opt/venv /opt/venv

# Last, so that it is what is built without a target: what watches real tables, and no more than that needs.
FROM base AS runtime
COPY --from=build /opt/venv /opt/venv
