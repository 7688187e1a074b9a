# The images of operator and runner, for any container engine:
#
#   docker build --target operator --tag YOUR_REGISTRY/dbbackup-operator .
#   docker build --target runner   --tag YOUR_REGISTRY/dbbackup-runner   .
#
# The two stages at the end are what `images/build` makes its images from too, with
# programs and bases of its own in place of those that are named here (images/README.md
# says which part has been run, and which has not).

ARG RUST=docker.io/library/rust:1.95-bookworm
# glibc, certificates and time zones, and no shell.
ARG OPERATOR_BASE=gcr.io/distroless/cc-debian13
ARG RUNNER_BASE=docker.io/library/debian:trixie-slim

FROM ${RUST} AS build
ARG PROFILE=release
# Of each target platform its own, should two be built at once.
ARG TARGETARCH
WORKDIR /src
COPY . .
# `dev` is the one profile that cargo builds into a folder of another name.
RUN --mount=type=cache,id=dbbackup-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=dbbackup-target-${TARGETARCH},target=/src/target \
    cargo build --locked --profile "${PROFILE}" --package dbbackup-operator --package dbbackup-runner \
 && mkdir /programs \
 && folder=$(echo "${PROFILE}" | sed 's/^dev$/debug/') \
 && cp "target/${folder}/dbbackup-operator" "target/${folder}/dbbackup-runner" /programs/
# It runs in servers' images, of which nothing is known: linked statically, as small as can be.
# With a target named, what runs while it is built (macros) is linked as usual.
RUN --mount=type=cache,id=dbbackup-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=dbbackup-target-${TARGETARCH},target=/src/target \
    target=$(rustc --print host-tuple) \
 && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --profile shim --target "${target}" --package dbbackup-shim --bin dbbackup-shim \
 && cp "target/${target}/shim/dbbackup-shim" /programs/

# A stage of its own, so that a folder with the programs can stand in its place.
FROM scratch AS programs
COPY --from=build /programs/ /

FROM ${OPERATOR_BASE} AS operator
LABEL org.opencontainers.image.title="dbbackup operator" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin
COPY LICENSE /usr/share/doc/dbbackup/copyright
COPY --from=programs /dbbackup-operator /usr/local/bin/dbbackup-operator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dbbackup-operator"]

FROM ${RUNNER_BASE} AS runner
LABEL org.opencontainers.image.title="dbbackup runner" \
      org.opencontainers.image.licenses="Apache-2.0"
# Where PostgreSQL's clients come from, and which majors: a dump takes the oldest that is
# not older than the server, and none before 15 (docs/postgresql.md); a restore that of
# the dump.
ARG CLIENTS="pgdg 15 16 17 18"
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin
COPY images/postgresql-clients /tmp/postgresql-clients
RUN sh /tmp/postgresql-clients ${CLIENTS} \
 && rm /tmp/postgresql-clients \
 && echo "dbbackup:x:65532:65532::/nonexistent:/usr/sbin/nologin" >>/etc/passwd \
 && echo "dbbackup:x:65532:" >>/etc/group
COPY LICENSE /usr/share/doc/dbbackup/copyright
COPY --from=programs /dbbackup-runner /usr/local/bin/dbbackup-runner
COPY --from=programs /dbbackup-shim /usr/local/bin/dbbackup-shim
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dbbackup-runner"]
