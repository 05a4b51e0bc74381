# syntax=docker/dockerfile:1
# The coordinator. Build from the repository's root:
#   docker build -f deploy/docker/coordinator.Dockerfile -t ravan-coordinator .
# TORCH_INDEX: the index of CPU builds that PyTorch's installation page names; without it torch brings gigabytes of CUDA.

FROM python:3.11-slim-bookworm AS build
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/ravan
COPY deploy/docker/coordinator.lock deploy/docker/build.lock ./
RUN /opt/ravan/bin/pip install --require-hashes --no-deps -r coordinator.lock \
    && /opt/ravan/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}" \
    && python -m venv tools && tools/bin/pip install --require-hashes --no-deps -r build.lock
COPY pyproject.toml README.md ./
COPY ravan ravan
COPY coordinator coordinator
COPY edge_agent edge_agent
RUN tools/bin/python -m build --no-isolation --wheel --outdir dist . && /opt/ravan/bin/pip install --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 ravan && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/ravan ravan \
    && chmod 0700 /var/lib/ravan
COPY --from=build /opt/ravan /opt/ravan
COPY --chmod=0755 deploy/docker/coordinator-start.sh /usr/local/bin/coordinator-start
COPY --chmod=0755 deploy/docker/invite.sh /usr/local/bin/invite
ENV PATH=/opt/ravan/bin:$PATH HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 RAVAN_FOLDER=/var/lib/ravan/hq
USER 10001:10001
VOLUME /var/lib/ravan
EXPOSE 8440 8443 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/readyz', timeout=4)"]
ENTRYPOINT ["coordinator-start"]
