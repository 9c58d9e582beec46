# One image for every process of canonq: beat, both workers, Flower and the `canonq` command.
#
# Where images cannot be pulled, BASE and DOCKER_CLI can name local ones (see deploy/local-images). Where packages
# cannot be fetched from inside a build, put wheels into requirements/wheels: then nothing else is asked for.
ARG BASE=python:3.11-slim-bookworm
ARG DOCKER_CLI=docker:28-cli

FROM ${DOCKER_CLI} AS docker-cli

FROM ${BASE} AS build
# So that what this stage leaves behind can be found and removed.
LABEL canonq.stage=build
WORKDIR /build
COPY requirements requirements
RUN set -eu; \
    set -- --no-cache-dir --disable-pip-version-check --quiet; \
    if [ -d requirements/wheels ]; then set -- "$@" --no-index --find-links requirements/wheels; fi; \
    python3 -m venv /opt/canonq; \
    python3 -m venv tools; \
    /opt/canonq/bin/pip install "$@" --require-hashes -r requirements/run.txt; \
    tools/bin/pip install "$@" --require-hashes -r requirements/build.txt
COPY . source
RUN set -eu; \
    rm -rf source/requirements/wheels; \
    tools/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir dist ./source; \
    /opt/canonq/bin/pip install --quiet --no-cache-dir --no-deps --no-index dist/*.whl

FROM ${BASE}
# A base that brings them already needs no package source.
RUN set -eu; \
    missing=; \
    for pair in git:git git-lfs:git-lfs ssh:openssh-client tar:tar setpriv:util-linux; do \
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"; \
    done; \
    if [ -n "$missing" ]; then \
        apt-get update; \
        apt-get install -y --no-install-recommends ca-certificates $missing; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    # The checkout and the mirrors are mounted in, and belong to whoever made them on the host.
    git config --system --add safe.directory '*'
COPY --from=docker-cli /usr/local/bin/docker /usr/local/bin/docker
COPY --from=build /opt/canonq /opt/canonq
ENV PATH=/opt/canonq/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    CANONQ_STATE=/var/lib/canonq \
    CELERY_APP=canonq
WORKDIR /
ENTRYPOINT []
CMD ["canonq", "doctor"]
