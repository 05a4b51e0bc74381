# syntax=docker/dockerfile:1
# An agent, for trying a federation out; on a plant's PC `ravan-agent service install` serves better.
#   docker build -f deploy/docker/agent.Dockerfile -t ravan-agent .
# TORCH_INDEX: as in coordinator.Dockerfile.

FROM python:3.11-slim-bookworm AS build
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/ravan
COPY deploy/docker/agent.lock deploy/docker/build.lock ./
RUN /opt/ravan/bin/pip install --require-hashes --no-deps -r agent.lock \
    && /opt/ravan/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}" \
    && python -m venv tools && tools/bin/pip install --require-hashes --no-deps -r build.lock
COPY pyproject.toml README.md ./
COPY ravan ravan
COPY coordinator coordinator
COPY edge_agent edge_agent
RUN tools/bin/python -m build --no-isolation --wheel --outdir dist . && /opt/ravan/bin/pip install --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10002 ravan && useradd --uid 10002 --gid 10002 --create-home --home-dir /var/lib/ravan ravan \
    && chmod 0700 /var/lib/ravan
COPY --from=build /opt/ravan /opt/ravan
COPY --chmod=0755 deploy/docker/agent-start.sh /usr/local/bin/agent-start
ENV PATH=/opt/ravan/bin:$PATH HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 RAVAN_FOLDER=/var/lib/ravan/site
USER 10002:10002
VOLUME /var/lib/ravan
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=3 \
    CMD ["sh", "-c", "exec ravan-agent config check --config \"$RAVAN_FOLDER/agent.toml\""]
ENTRYPOINT ["agent-start"]
