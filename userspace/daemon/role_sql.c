/* SPDX-License-Identifier: MIT */
#include "daemon/role_sql.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { V14 = 140000, V16 = 160000, AGENT_CHARS = 24 };

void role_name(const char *agent, const uint8_t random[ROLE_RANDOM], char dst[ROLE_NAME_TEXT])
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	size_t n = (size_t)snprintf(dst, ROLE_NAME_TEXT, "tg_");

	for (size_t i = 0; agent[i] && i < AGENT_CHARS; i++)
		dst[n++] = (agent[i] >= 'a' && agent[i] <= 'z') || (agent[i] >= '0' && agent[i] <= '9')
				   ? agent[i]
				   : '_';
	dst[n++] = '_';
	/* Base32: 5 bits each; the last has 3. */
	for (unsigned bit = 0; bit < 8 * ROLE_RANDOM; bit += 5) {
		unsigned two = (unsigned)random[bit / 8] << 8 |
			       (bit / 8 + 1 < ROLE_RANDOM ? random[bit / 8 + 1] : 0);

		dst[n++] = digits[two >> (11 - bit % 8) & 31];
	}
	dst[n] = '\0';
}

static int quoted(struct buf *b, const char *text, char quote, bool backslashes)
{
	int rc = buf_append(b, &quote, 1);

	for (; !rc && *text; text++) {
		if (*text == quote || (backslashes && *text == '\\'))
			rc = buf_append(b, text, 1);
		if (!rc)
			rc = buf_append(b, text, 1);
	}
	return rc ? rc : buf_append(b, &quote, 1);
}

int role_sql_ident(struct buf *b, const char *name)
{
	return quoted(b, name, '"', false);
}

/* Whatever standard_conforming_strings is there. */
int role_sql_literal(struct buf *b, const char *text)
{
	bool escape = strchr(text, '\\') != NULL;
	int rc = escape ? buf_printf(b, " E") : 0;

	return rc ? rc : quoted(b, text, '\'', escape);
}

/* @fmt with `I` and `L` behind % for a name and a text, and nothing else. */
static int put(struct buf *b, const char *fmt, const char *const *args)
{
	int rc = 0;

	while (!rc && *fmt) {
		size_t n = strcspn(fmt, "%");

		rc = buf_append(b, fmt, n);
		fmt += n;
		if (rc || !*fmt)
			break;
		rc = fmt[1] == 'I' ? role_sql_ident(b, *args) : role_sql_literal(b, *args);
		args++;
		fmt += 2;
	}
	return rc;
}

#define PUT(b, fmt, ...) put(b, fmt, (const char *const[]){__VA_ARGS__, NULL})

/*
 * Who may create in a schema of search_path can define an operator that fits better than the server's
 * own, and whoever compares runs it. SET LOCAL: for this message, whatever is in between.
 */
#define SAFELY "SET LOCAL search_path = pg_catalog;\n"

int role_sql_clock(struct buf *b, uint64_t ms)
{
	return buf_printf(b,
			  SAFELY "SELECT pg_catalog.current_setting('server_version_num'), "
			  "pg_catalog.to_char((pg_catalog.clock_timestamp() + interval '%llu "
			  "milliseconds') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') || '+00'",
			  (unsigned long long)ms);
}

/* {role} and {database} outside quotes. */
static int put_statement(struct buf *b, const char *text, const struct role_spec *r)
{
	char quote = 0;
	int rc = 0;

	while (!rc && *text) {
		if (!quote && strncmp(text, "{role}", 6) == 0) {
			rc = role_sql_ident(b, r->role);
			text += 6;
		} else if (!quote && strncmp(text, "{database}", 10) == 0) {
			rc = role_sql_ident(b, r->database);
			text += 10;
		} else {
			if (*text == '"' || *text == '\'')
				quote = !quote ? *text : quote == *text ? 0 : quote;
			rc = buf_append(b, text++, 1);
		}
	}
	return rc ? rc : buf_printf(b, ";\n");
}

/*
 * Rights come by inheritance. From 16 on the role cannot become what it is a member of, so what it
 * makes is its own; before that nothing but a rule of the policy keeps it from SET ROLE.
 */
static int put_grant(struct buf *b, const char *grant, const struct role_spec *r)
{
	int rc;

	if (strncasecmp(grant, "grant ", 6) == 0)
		return put_statement(b, grant, r);
	rc = PUT(b, "GRANT %I TO %I", grant, r->role);
	return rc ? rc
		  : buf_printf(b, "%s;\n", r->server_version >= V16 ? " WITH INHERIT TRUE, SET FALSE" : "");
}

/*
 * Two that grant or revoke on the same thing at once would get "tuple concurrently updated": they take
 * turns, in this database, also with the Tidegate of another host. But anybody can take that lock, and
 * keep it: who has waited a while goes on without.
 */
#define SOON   "SET LOCAL lock_timeout = '5s';\n"
#define IN_TURN                                                                                    \
	"SET LOCAL lock_timeout = '1s';\n"                                                         \
	"SELECT pg_catalog.pg_advisory_xact_lock(1952736116, 1919904869);\n" SOON

static const char *turn(bool wait)
{
	return wait ? IN_TURN : SOON;
}

int role_sql_make(struct buf *b, const struct role_spec *r)
{
	int rc = buf_printf(b, "BEGIN;\n%s", turn(r->in_turn));

	if (!rc)
		rc = PUT(b,
			 "CREATE ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE "
			 "NOREPLICATION NOBYPASSRLS PASSWORD %L VALID UNTIL %L",
			 r->role, r->verifier, r->until);
	if (!rc)
		rc = buf_printf(b, " CONNECTION LIMIT %u;\n", r->connections);
	if (!rc)
		rc = PUT(b, "COMMENT ON ROLE %I IS %L;\n", r->role, r->comment);
	for (size_t i = 0; !rc && r->grants && r->grants[i]; i++)
		rc = put_grant(b, r->grants[i], r);
	return rc;
}

int role_sql_rekey(struct buf *b, const char *role, const char *verifier)
{
	return PUT(b, "ALTER ROLE %I PASSWORD %L", role, verifier);
}

int role_sql_look(struct buf *b, const char *role, const char *owner)
{
	return PUT(b,
		   SAFELY
		   "SELECT pg_catalog.current_setting('server_version_num'), r.rolname, "
		   "pg_catalog.shobj_description(r.oid, 'pg_authid'), EXISTS (SELECT FROM "
		   "pg_catalog.pg_roles o JOIN pg_catalog.pg_roles x ON x.oid = o.oid OR "
		   "pg_catalog.pg_has_role(o.oid, x.oid, 'MEMBER') WHERE o.rolname = %L AND "
		   "(x.rolsuper OR x.rolcreaterole OR x.rolreplication OR x.rolbypassrls OR "
		   "x.rolname = CURRENT_USER OR x.rolname IN ('pg_execute_server_program', "
		   "'pg_write_server_files', 'pg_read_server_files'))) FROM (SELECT 1) one "
		   "LEFT JOIN pg_catalog.pg_roles r ON r.rolname = %L",
		   owner ? owner : "", role);
}

int role_sql_shut(struct buf *b, const char *role)
{
	return PUT(b, "ALTER ROLE %I NOLOGIN", role);
}

int role_sql_join(struct buf *b, const char *role, uint32_t server_version)
{
	int rc = PUT(b, "GRANT %I TO CURRENT_USER", role);

	return rc || server_version < V16 ? rc : buf_printf(b, " WITH INHERIT TRUE, SET TRUE");
}

int role_sql_terminate(struct buf *b, const char *role, bool wait, uint32_t server_version)
{
	if (wait && server_version < V14)
		return buf_printf(b, "SELECT pg_catalog.pg_sleep(0.5)");
	return PUT(b,
		   wait ? SAFELY "SELECT pg_catalog.pg_terminate_backend(pid, 2000) FROM "
				 "pg_catalog.pg_stat_activity WHERE usename = %L"
			: SAFELY "SELECT pg_catalog.pg_terminate_backend(pid) FROM "
			  "pg_catalog.pg_stat_activity WHERE usename = %L",
		   role);
}

int role_sql_databases(struct buf *b, const char *role)
{
	return PUT(b,
		   SAFELY "SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s JOIN "
		   "pg_catalog.pg_database d ON d.oid = s.dbid WHERE d.datallowconn AND s.refclassid "
		   "= 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = (SELECT oid FROM "
		   "pg_catalog.pg_roles WHERE rolname = %L) AND d.datname <> "
		   "pg_catalog.current_database()",
		   role);
}

#define CLASS(name) "'pg_catalog." name "'::pg_catalog.regclass"

/*
 * Tables, sequences and schemas are data. All else is, or may be, code that the server runs with the
 * rights of its owner: functions and views when they are used, rules, expressions of indexes when
 * autovacuum looks at them, defaults and checks when a cascade changes a row.
 */
int role_sql_code(struct buf *b, const char *role)
{
	return PUT(b,
		   SAFELY
		   "SELECT pg_catalog.pg_describe_object(s.classid, s.objid, 0) FROM "
		   "pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_class c ON s.classid = " CLASS(
			   "pg_class") " AND c.oid = s.objid LEFT JOIN pg_catalog.pg_type y ON s.classid = "
		   CLASS("pg_type") " AND y.oid = s.objid WHERE s.dbid = (SELECT oid FROM "
		   "pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AND "
		   "s.deptype = 'o' AND s.refclassid = " CLASS("pg_authid") " AND s.refobjid = (SELECT "
		   "oid FROM pg_catalog.pg_roles WHERE rolname = %L) AND s.classid NOT IN (" CLASS(
			   "pg_namespace") ", " CLASS("pg_largeobject") ") AND NOT COALESCE(y.typtype IN "
		   "('e', 'c'), c.relkind IN ('r', 'p', 'S') AND NOT EXISTS (SELECT FROM "
		   "pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid) AND NOT EXISTS (SELECT FROM "
		   "pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) AND NOT "
		   "EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid "
		   "= c.oid AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))) "
		   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d ON "
		   "d.classid = " CLASS("pg_class") " AND d.objid = i.indexrelid WHERE i.indrelid = "
		   "c.oid AND d.refobjid >= 16384 AND d.refclassid NOT IN (" CLASS("pg_class") ", " CLASS(
			   "pg_constraint") ")), false) ORDER BY 1 LIMIT 1",
		   role);
}

/*
 * DROP OWNED does not find everything: what a grantor gave who is not the one that the server
 * chooses for it stays, and would keep the role.
 */
int role_sql_revoke(struct buf *b, const char *role, const char *database, const char *grant,
		    bool in_turn)
{
	const struct role_spec r = {.role = role, .database = database};
	const char *to = strstr(grant, "{role}"), *end = to;
	char *text;
	int rc;

	if (strncasecmp(grant, "grant ", 6) != 0 || !to)
		return 0;
	while (to > grant && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\n'))
		to--;
	if (to - grant < 9 || strncasecmp(to - 2, "to", 2) != 0)
		return -EINVAL;
	if (asprintf(&text, "REVOKE %.*sFROM %s", (int)(to - 2 - grant - 6), grant + 6, end) < 0)
		return -ENOMEM;
	rc = buf_printf(b, "%s", turn(in_turn));
	if (!rc)
		rc = put_statement(b, text, &r);
	free(text);
	return rc;
}

int role_sql_disown(struct buf *b, const char *role, const char *owner, bool drop, bool in_turn)
{
	int rc = buf_printf(b, "%s", turn(in_turn));

	if (!rc && !drop)
		rc = owner ? PUT(b, "REASSIGN OWNED BY %I TO %I;\n", role, owner)
			   : PUT(b, "REASSIGN OWNED BY %I TO CURRENT_USER;\n", role);
	/* And what was granted to it. */
	return rc ? rc : PUT(b, "DROP OWNED BY %I", role);
}

int role_sql_drop(struct buf *b, const char *role, const char *owner, bool drop, bool in_turn)
{
	int rc = buf_printf(b, "BEGIN;\n");

	if (!rc)
		rc = role_sql_disown(b, role, owner, drop, in_turn);
	return rc ? rc : PUT(b, ";\nDROP ROLE %I;\nCOMMIT", role);
}

int role_sql_left(struct buf *b, const char *marker)
{
	return PUT(b,
		   SAFELY "SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.starts_with("
		   "pg_catalog.shobj_description(oid, 'pg_authid'), %L) LIMIT 200",
		   marker);
}
