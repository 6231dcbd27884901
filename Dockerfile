# Postern in a container. Build: docker build -t postern . ; run: see docs/install.md.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# For the parts in C; what runs has no compiler. Whatever gcc Debian has will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.lock requirements-dev.lock ./
# The wheel is built with the locked tools; what runs has the locked libraries and nothing else.
RUN python -m venv /tools \
    && /tools/bin/pip install --require-hashes --requirement requirements-dev.lock \
    && python -m venv /opt/postern \
    && /opt/postern/bin/pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY relay ./relay
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/postern/bin/pip install --no-deps --no-index /wheel/*.whl \
    && /opt/postern/bin/pip uninstall --yes pip \
    && /opt/postern/bin/python -m compileall -q /opt/postern/lib

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Postern" \
      org.opencontainers.image.description="An SMTP relay that enforces encryption policy" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10025 postern \
    && useradd --uid 10025 --gid postern --home-dir /var/lib/postern --no-create-home --shell /usr/sbin/nologin postern \
    && install --directory --owner=postern --group=postern --mode=0700 /var/lib/postern /run/postern \
    && install --directory --owner=root --group=postern --mode=0750 /etc/postern
COPY --from=build /opt/postern /opt/postern
COPY conf /usr/share/postern/conf
COPY policies /usr/share/postern/policies
ENV PATH=/opt/postern/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10025:10025
WORKDIR /var/lib/postern
VOLUME ["/var/lib/postern"]
EXPOSE 25 465 587 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/postern/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8025/livez', timeout=4).read()"]
ENTRYPOINT ["/opt/postern/bin/postern"]
CMD ["run", "--config", "/etc/postern/postern.yaml"]
