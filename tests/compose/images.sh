#!/usr/bin/env bash
# Stand-ins for the images that docker-compose.yml names, made from Debian's packages alone: for a machine without
# a way to an image registry. Usage: images.sh DIRECTORY. As root, on Debian 12; about a minute and 1.2 GB.
# Docker's compose and buildx plugins (Debian's too) are put into DIRECTORY/docker/cli-plugins.
set -euo pipefail
directory=$1
scripts=$(realpath "$(dirname "$0")")
mkdir -p "$directory"/docker/cli-plugins
cd "$directory"
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' | head -n 1)}

"$scripts"/from-sid.sh "$directory" docker-compose docker-buildx prometheus promtool prometheus-alertmanager \
  prometheus-redis-exporter
# Removed first: one that runs cannot be written to.
cp --remove-destination files/usr/libexec/docker/cli-plugins/docker-{compose,buildx} docker/cli-plugins/
export DOCKER_CONFIG=$directory/docker

if [ ! -e root/usr/bin/python3 ]; then
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates,redis-server,redis-tools \
    trixie root "$mirror" >debootstrap.log
fi
# pip in a build trusts what this machine trusts.
certificates=/etc/ssl/certs/ca-certificates.crt
cp "$certificates" "root$certificates"
rm -f root/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do ln -sf /usr/bin/python3 "root/usr/local/bin/$name"; done
ln -sf /usr/bin/pip3 root/usr/local/bin/pip
tar -C root -c . | docker import \
  -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
  -c "ENV PIP_CERT=$certificates SSL_CERT_FILE=$certificates LANG=C.UTF-8" \
  -c 'CMD ["python3"]' - python:3.13-slim-trixie

stand_in() { docker build -q -t "$1" -f - files; }
stand_in redis:8.4.4-trixie <<'DOCKERFILE'
FROM python:3.13-slim-trixie
RUN mkdir -p /data && chown redis:redis /data
USER redis
WORKDIR /data
CMD ["redis-server"]
DOCKERFILE
stand_in prom/prometheus:v3.5.3 <<'DOCKERFILE'
FROM python:3.13-slim-trixie
COPY usr/bin/prometheus usr/bin/promtool /bin/
RUN mkdir -p /prometheus && chown nobody:nogroup /prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
DOCKERFILE
stand_in prom/alertmanager:v0.33.1 <<'DOCKERFILE'
FROM python:3.13-slim-trixie
COPY usr/bin/prometheus-alertmanager /bin/alertmanager
COPY usr/bin/amtool /bin/amtool
COPY usr/share/prometheus/alertmanager /usr/share/prometheus/alertmanager
RUN mkdir -p /alertmanager && chown nobody:nogroup /alertmanager
USER nobody
ENTRYPOINT ["/bin/alertmanager"]
DOCKERFILE
stand_in oliver006/redis_exporter:v1.86.0 <<'DOCKERFILE'
FROM python:3.13-slim-trixie
COPY usr/bin/prometheus-redis-exporter /redis_exporter
USER 59000:59000
ENTRYPOINT ["/redis_exporter"]
DOCKERFILE
