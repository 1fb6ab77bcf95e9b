# The stand-in for golang:1.26-bookworm. build.sh makes what is copied here.
FROM hark-standin-base:bookworm
ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go GOTOOLCHAIN=local \
  GOPROXY=file:///go/pkg/mod/cache/download GOSUMDB=off
COPY image/ /
WORKDIR /go
