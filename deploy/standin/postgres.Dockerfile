# The stand-in for postgres:15. build.sh makes what is copied here.
FROM hark-standin-base:bookworm
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin LANG=C.UTF-8 PG_MAJOR=15 PGDATA=/var/lib/postgresql/data
RUN rm -rf /etc/postgresql /var/lib/postgresql && mkdir -p /docker-entrypoint-initdb.d \
  && install -d -o postgres -g postgres -m 1777 "$PGDATA" && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
  && sed -ri "s!^#?(listen_addresses)\s*=\s*\S+.*!\1 = '*'!" /usr/share/postgresql/15/postgresql.conf.sample
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
