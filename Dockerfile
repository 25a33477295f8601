# Not tried: there was no container engine where this was written. Its steps are those of a plain installation.
#
#   docker build --tag makemore .
#   docker run --rm --volume "$PWD:/work" --volume makemore-looks:/looks makemore sweep
#
# The second volume is the ledger of looks (looks.ledger). Without it, each container forgets which test splits were
# looked at.
FROM python:3.11-slim AS tools
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

FROM tools AS makemore
WORKDIR /opt/makemore-sweeps
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY makemore makemore
COPY sweeps sweeps
COPY hydra_plugins hydra_plugins
RUN pip install --no-cache-dir --constraint constraints.txt '.[postgresql]'
ENV XDG_STATE_HOME=/looks
WORKDIR /work
ENTRYPOINT ["makemore"]
CMD ["--help"]
