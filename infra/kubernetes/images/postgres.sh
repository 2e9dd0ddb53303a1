#!/bin/sh
# Make the database on the first start, from POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and PGDATA, then run PostgreSQL.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    umask 077
    # Made beside its place and moved, so that a start that was killed is made again.
    rm -rf "$PGDATA.new" /tmp/password
    printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata "$PGDATA.new" --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 --encoding UTF8 >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
    if [ "$POSTGRES_DB" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA.new" postgres >/dev/null
    fi
    mv "$PGDATA.new" "$PGDATA"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*'
