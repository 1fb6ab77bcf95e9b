# hark as an image: one static program, from scratch, for a user without rights and a read-only root file system.
#   docker build -t hark .

FROM golang:1.26-bookworm AS build
LABEL hark.stage=build
WORKDIR /src
# The modules are a layer of their own, so that they are fetched again only when go.mod changes.
COPY go.mod go.sum ./
RUN go mod download
# Go stamps the version from .git. VERSION, if given, goes first.
ARG VERSION=
COPY . .
# The .git of a linked work tree points out of the context, which go build takes for an error.
RUN git status >/dev/null 2>&1 || rm -rf .git; \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.buildVersion=$VERSION" -o /out/hark ./cmd/hark \
    && mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/hark /hark
# The only folder that hark writes to. Exports put their temporary files there as well.
COPY --from=build --chown=65532:65532 /out/data /var/lib/hark
ENV HARK_DATA=/var/lib/hark TMPDIR=/var/lib/hark
VOLUME /var/lib/hark
USER 65532:65532
EXPOSE 4280 4281
ENTRYPOINT ["/hark"]
CMD ["--help"]
