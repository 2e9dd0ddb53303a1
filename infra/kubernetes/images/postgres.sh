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
    if [ "$POSTGRES_DB" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA.new" postgres >/dev/null
    fi
    mv "$PGDATA.new" "$PGDATA"
fi
# Who may run a program in this pod has the database's files anyway, so its socket asks for no password: how else would one that
# is lost be changed? Written at every start, for a database that an earlier image made.
printf '%s\n' 'local all all trust' 'host all all all scram-sha-256' >"$PGDATA/pg_hba.conf"
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*'
