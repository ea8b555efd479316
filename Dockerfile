# A worker, or with another command the scoring server, from the same lock as everywhere else:
#   docker build --build-arg GIT_COMMIT=$(git rev-parse HEAD) -t evergreen .
#   docker run --env-file configs/env/prod.env -e EVERGREEN_DATABASE_URL=... -v /srv/evergreen:/var/lib/evergreen evergreen
#   docker run -p 8080:8080 -e EVERGREEN_HOST=0.0.0.0 -e EVERGREEN_SERVING_TOKEN=... (the same) evergreen .venv/bin/python -m serving
FROM python:3.11-slim AS build
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir "$(grep -o 'uv==[0-9.]*' pyproject.toml)"
RUN .venv/bin/uv sync --frozen --no-default-groups --inexact --compile-bytecode --no-cache --python .venv/bin/python

FROM python:3.11-slim
RUN useradd --create-home evergreen && mkdir -p /var/lib/evergreen && chown evergreen /var/lib/evergreen
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY pyproject.toml uv.lock prefect.yaml ./
COPY configs configs
COPY tasks tasks
COPY flows flows
COPY serving serving
COPY ops ops
ARG GIT_COMMIT=""
ENV EVERGREEN_GIT_COMMIT=$GIT_COMMIT EVERGREEN_POOL=evergreen PYTHONUNBUFFERED=1
# What Prefect and the libraries write for themselves; /app stays read-only.
ENV PREFECT_HOME=/home/evergreen/.prefect MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
USER evergreen
# Flow runs are started as `.venv/bin/python -m prefect.engine` in this folder: prefect.yaml says so.
CMD [".venv/bin/python", "-m", "ops.worker"]
