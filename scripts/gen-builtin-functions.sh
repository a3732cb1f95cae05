#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes userspace/inspect/sql/builtin_functions.inc and builtin_operators.inc
# from the catalogue of a PostgreSQL server whose database has nothing
# installed in it (PGHOST, PGPORT, PGUSER say which; its major version must be that
# of the grammar). Run by hand when the grammar's version changes.
set -eu
cd "$(dirname "$0")/../userspace/inspect/sql"
version=$(psql -AtXc 'show server_version_num')
major=$(sed -n 's/^#define PG_MAJORVERSION "\([0-9]*\)".*/\1/p' /usr/include/pg_query.h)
[ "$((version / 10000))" = "$major" ] || {
	echo "server $version is not of the grammar's major version $major" >&2
	exit 1
}

head_of() {
	printf '/* SPDX-License-Identifier: MIT */\n'
	printf '/* %s of PostgreSQL %s, by scripts/gen-builtin-functions.sh. Sorted. */\n' "$1" "$major"
}

# V("name"), S or I: the most volatile of the functions of that name
{
	head_of 'Functions of pg_catalog'
	psql -AtX <<'SQL' | LC_ALL=C sort | awk -F '|' '{
		s = sprintf("%s(\"%s\")", $2, $1)
		if (length(line) + length(s) + 1 > 98) { print line; line = s }
		else line = line == "" ? s : line " " s
	} END { print line }'
select proname, case max(case provolatile when 'v' then 2 when 's' then 1 else 0 end)
	when 2 then 'V' when 1 then 'S' else 'I' end
from pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1
SQL
} >builtin_functions.inc.tmp
mv builtin_functions.inc.tmp builtin_functions.inc

# O(name)
{
	head_of 'Operators of pg_catalog'
	psql -AtXc "select distinct oprname from pg_operator
		where oprnamespace = 'pg_catalog'::regnamespace" | LC_ALL=C sort | awk '{
		s = sprintf("O(\"%s\")", $1)
		if (length(line) + length(s) + 1 > 98) { print line; line = s }
		else line = line == "" ? s : line " " s
	} END { print line }'
} >builtin_operators.inc.tmp
mv builtin_operators.inc.tmp builtin_operators.inc
