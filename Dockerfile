# syntax=docker/dockerfile:1
# One image for server and agent: `argotun --mode server|agent`. No shell, no package manager, not root.
#
# Builds for amd64 and arm64: nothing here is compiled, every package has a wheel for both. Packages are
# pinned by hash; the base images by name only: a digest belongs here once a registry has told it
# (python:3.13-slim-trixie@sha256:…). With the same base images and SOURCE_DATE_EPOCH every build of a
# commit gives the same files.

FROM python:3.13-slim-trixie AS build

# The environment must name the interpreter as the image that it moves to does.
RUN ln -sf /usr/local/bin/python3.13 /usr/bin/python3 \
 && /usr/bin/python3 -m venv --without-pip /opt/argotun

COPY requirements.txt requirements-otel.txt /tmp/
RUN python3.13 -m pip --python /opt/argotun/bin/python3 install \
    --no-cache-dir --no-compile --require-hashes --only-binary=:all: -r /tmp/requirements.txt \
    -r /tmp/requirements-otel.txt

COPY argotun.py LICENSE /opt/argotun/app/
COPY argotun /opt/argotun/app/argotun

# The root file system may be read-only, and bytecode must not depend on file times.
RUN /opt/argotun/bin/python3 -m compileall -q --invalidation-mode unchecked-hash \
    /opt/argotun/app /opt/argotun/lib


FROM gcr.io/distroless/python3-debian13:nonroot

ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="argotun" \
      org.opencontainers.image.description="A reverse tunnel from customers' Kubernetes clusters to a managed Argo CD" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

COPY --from=build /opt/argotun /opt/argotun

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# By number, so that Kubernetes can see that it is not root.
USER 65532:65532

# Agents dial 8443, Argo CD asks 8080, probes and metrics are on 8081.
EXPOSE 8443 8080 8081

ENTRYPOINT ["/opt/argotun/bin/python3", "/opt/argotun/app/argotun.py"]
