# The stand-in for nats:2.15-alpine. build.sh makes what is copied here.
FROM hark-standin-base:bookworm
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN ln -s busybox /bin/wget && mkdir -p /etc/nats
COPY nats-server /usr/local/bin/
COPY nats-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
EXPOSE 4222 8222 6222
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["nats-server", "--config", "/etc/nats/nats-server.conf"]
